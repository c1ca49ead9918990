//! The syntax tree: small, closed, and the only form in which the other parts see an expression.

use std::ops::Range;

/// One node, with what it takes to bound the work on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expr {
    /// Where it stands, in bytes of the expression's text.
    pub(super) span: Range<usize>,
    pub(super) node: Node,
    /// How many nodes deep it is; what recurses over it recurses no deeper.
    pub(super) depth: usize,
    /// Whether it refers to nothing of a run.
    pub(super) is_constant: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Text(Box<str>),
    /// A value of the run.
    Variable(Variable),
    /// `stages.NAME.metrics` as a whole: the right side of `in`.
    Metrics(Box<str>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    /// `a && b && c`: one node, however long the chain is.
    All(Vec<Expr>),
    /// `a || b || c`.
    Any(Vec<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    /// `condition ? one : other`.
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    List(Vec<Expr>),
    Call(Function, Vec<Expr>),
    /// `has(…)`.
    Has(Variable),
}

/// A path that leads to one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variable {
    Param(Box<str>),
    Cause(CauseField),
    Outcome(Box<str>),
    Image(Box<str>),
    Metric(Box<str>, Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CauseField {
    Kind,
    Branch,
    Commit,
    LogicalTime,
}

impl CauseField {
    pub(super) const ALL: [(&'static str, Self); 4] = [
        ("kind", Self::Kind),
        ("branch", Self::Branch),
        ("commit", Self::Commit),
        ("logical_time", Self::LogicalTime),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    /// The comparison that holds where this one does not.
    pub(super) const fn negated(self) -> Self {
        match self {
            Self::Equal => Self::Unequal,
            Self::Unequal => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    pub(super) fn holds(self, ordering: Option<std::cmp::Ordering>) -> bool {
        match self {
            Self::Equal => ordering.is_some_and(std::cmp::Ordering::is_eq),
            Self::Unequal => !ordering.is_some_and(std::cmp::Ordering::is_eq),
            Self::Less => ordering.is_some_and(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => ordering.is_some_and(std::cmp::Ordering::is_le),
            Self::Greater => ordering.is_some_and(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => ordering.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    String,
    Int,
    Double,
}

impl Function {
    /// Those called with their argument alone: `size(x)`.
    pub(super) const GLOBAL: [(&'static str, Self); 4] = [
        ("size", Self::Size),
        ("string", Self::String),
        ("int", Self::Int),
        ("double", Self::Double),
    ];

    /// Those called on a text: `x.startsWith(y)`.
    pub(super) const METHODS: [(&'static str, Self); 4] = [
        ("size", Self::Size),
        ("startsWith", Self::StartsWith),
        ("endsWith", Self::EndsWith),
        ("contains", Self::Contains),
    ];

    pub(super) fn word(self) -> &'static str {
        let mut all = Self::GLOBAL.iter().chain(&Self::METHODS);
        all.find(|(_, function)| *function == self)
            .map_or("", |(word, _)| *word)
    }
}

impl Expr {
    pub(super) fn new(span: Range<usize>, node: Node) -> Self {
        let (mut depth, mut is_constant) = (0, true);
        let mut below = |child: &Self| {
            depth = depth.max(child.depth);
            is_constant &= child.is_constant;
        };
        match &node {
            Node::Boolean(_) | Node::Integer(_) | Node::Double(_) | Node::Text(_) => {}
            Node::Variable(_) | Node::Metrics(_) | Node::Has(_) => is_constant = false,
            Node::Not(inner) | Node::Negative(inner) => below(inner),
            Node::Compare(_, left, right)
            | Node::In(left, right)
            | Node::Arithmetic(_, left, right) => {
                below(left);
                below(right);
            }
            Node::Choose(condition, one, other) => {
                below(condition);
                below(one);
                below(other);
            }
            Node::All(items) | Node::Any(items) | Node::List(items) | Node::Call(_, items) => {
                items.iter().for_each(below);
            }
        }
        Self {
            span,
            node,
            depth: depth + 1,
            is_constant,
        }
    }

    /// Hands out every node, a parent before its children.
    pub(super) fn each<'a>(&'a self, found: &mut impl FnMut(&'a Node)) {
        found(&self.node);
        match &self.node {
            Node::Boolean(_)
            | Node::Integer(_)
            | Node::Double(_)
            | Node::Text(_)
            | Node::Metrics(_)
            | Node::Variable(_)
            | Node::Has(_) => {}
            Node::Not(inner) | Node::Negative(inner) => inner.each(found),
            Node::Compare(_, left, right)
            | Node::In(left, right)
            | Node::Arithmetic(_, left, right) => {
                left.each(found);
                right.each(found);
            }
            Node::Choose(condition, one, other) => {
                for part in [condition, one, other] {
                    part.each(found);
                }
            }
            Node::All(items) | Node::Any(items) | Node::List(items) | Node::Call(_, items) => {
                for item in items {
                    item.each(found);
                }
            }
        }
    }

    /// Hands out the name of every stage that it refers to.
    pub(super) fn each_stage<'a>(&'a self, found: &mut impl FnMut(&'a str)) {
        self.each(&mut |node| match node {
            Node::Metrics(stage)
            | Node::Variable(
                Variable::Outcome(stage) | Variable::Image(stage) | Variable::Metric(stage, _),
            )
            | Node::Has(
                Variable::Outcome(stage) | Variable::Image(stage) | Variable::Metric(stage, _),
            ) => found(stage),
            _ => {}
        });
    }

    /// Whether it refers to the run's cause: the branch, the commit, what started it.
    pub(super) fn reads_cause(&self) -> bool {
        let mut reads = false;
        self.each(&mut |node| {
            reads |= matches!(
                node,
                Node::Variable(Variable::Cause(_)) | Node::Has(Variable::Cause(_))
            );
        });
        reads
    }
}
