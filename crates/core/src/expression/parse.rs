//! From tokens to the syntax tree, by precedence. It takes the whole text or none of it.

use std::ops::Range;

use super::ExpressionFault;
use super::dialect;
use super::syntax::{Arithmetic, Compare, Expr, Function, Node};
use super::token::{Kind, Token, tokens};
use super::{LONGEST, path};

/// The deepest nesting, of brackets as of operators: parsing, checking and evaluating recurse that deep.
pub(super) const DEEPEST: usize = 24;

pub(super) fn parse(source: &str) -> Result<Expr, ExpressionFault> {
    let whole = 0..source.len();
    if source.len() > LONGEST {
        let message = format!("the expression is longer than {LONGEST} bytes");
        return Err(ExpressionFault::new(whole, message));
    }
    if source.trim().is_empty() {
        return Err(ExpressionFault::new(whole, "the expression is empty"));
    }
    let mut parser = Parser {
        source,
        tokens: tokens(source)?,
        at: 0,
        nested: 0,
    };
    let expr = parser.expression()?;
    match parser.peek() {
        Kind::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end of the expression")),
    }
}

pub(super) struct Parser<'a> {
    pub(super) source: &'a str,
    tokens: Vec<Token>,
    at: usize,
    nested: usize,
}

/// Words with a meaning of their own, which are not names.
const RESERVED: [&str; 3] = ["true", "false", "in"];

impl Parser<'_> {
    pub(super) fn peek(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.tokens[self.at].span.clone()
    }

    pub(super) fn advance(&mut self) {
        // The last token is the end; the parser never goes past it.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    pub(super) fn take(&mut self, mark: &str) -> bool {
        let is_there = matches!(self.peek(), Kind::Mark(found) if *found == mark);
        if is_there {
            self.advance();
        }
        is_there
    }

    fn expect(&mut self, mark: &str) -> Result<usize, ExpressionFault> {
        let end = self.span().end;
        if self.take(mark) {
            Ok(end)
        } else {
            Err(self.unexpected(&format!("`{mark}`")))
        }
    }

    /// The fault of the token that is next, where `wanted` should be.
    pub(super) fn unexpected(&self, wanted: &str) -> ExpressionFault {
        let span = self.span();
        let found = match self.peek() {
            Kind::End => {
                let message = format!("the expression ends where {wanted} is wanted");
                return ExpressionFault::new(0..self.source.len(), message);
            }
            Kind::Word(word) => {
                // `not in`, `is not`: the first of them says it.
                if let Some(fault) = dialect::operator(word, span.clone()) {
                    return fault;
                }
                if let Some(fault) = dialect::constant(word, span.clone()) {
                    return fault;
                }
                &self.source[span.clone()]
            }
            Kind::Integer(_) | Kind::Double(_) | Kind::Text(_) | Kind::Mark(_) => {
                &self.source[span.clone()]
            }
        };
        let message = format!("`{}` stands where {wanted} is wanted", super::shown(found));
        ExpressionFault::new(span, message)
    }

    fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ExpressionFault>,
    ) -> Result<T, ExpressionFault> {
        if self.nested >= DEEPEST {
            return Err(too_deep(self.span()));
        }
        self.nested += 1;
        let result = inner(self);
        self.nested -= 1;
        result
    }

    pub(super) fn expression(&mut self) -> Result<Expr, ExpressionFault> {
        self.deeper(|parser| {
            let condition = parser.chain("||")?;
            if !parser.take("?") {
                return Ok(condition);
            }
            let one = parser.chain("||")?;
            parser.expect(":")?;
            let other = parser.expression()?;
            let span = condition.span.start..other.span.end;
            let parts = (Box::new(condition), Box::new(one), Box::new(other));
            node(span, Node::Choose(parts.0, parts.1, parts.2))
        })
    }

    /// `a || b || …`, or `a && b && …`.
    fn chain(&mut self, mark: &'static str) -> Result<Expr, ExpressionFault> {
        let is_any = mark == "||";
        let item = |parser: &mut Self| {
            if is_any {
                parser.chain("&&")
            } else {
                parser.binary(0)
            }
        };
        let first = item(self)?;
        let mut items = vec![first];
        while self.take(mark) {
            items.push(item(self)?);
        }
        let span = items[0].span.start..items[items.len() - 1].span.end;
        match (items.len(), is_any) {
            (1, _) => Ok(items.swap_remove(0)),
            (_, true) => node(span, Node::Any(items)),
            (_, false) => node(span, Node::All(items)),
        }
    }

    /// Comparisons, sums and products: those that bind at least this tightly.
    fn binary(&mut self, least: u8) -> Result<Expr, ExpressionFault> {
        let mut left = self.unary()?;
        while let Some((strength, operator)) = self.operator().filter(|found| found.0 >= least) {
            self.advance();
            let right = self.binary(strength + 1)?;
            let span = left.span.start..right.span.end;
            let (one, other) = (Box::new(left), Box::new(right));
            left = node(
                span,
                match operator {
                    Operator::Compare(compare) => Node::Compare(compare, one, other),
                    Operator::In => Node::In(one, other),
                    Operator::Arithmetic(arithmetic) => Node::Arithmetic(arithmetic, one, other),
                },
            )?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(u8, Operator)> {
        let mark = match self.peek() {
            Kind::Word(word) if word == "in" => return Some((0, Operator::In)),
            Kind::Mark(mark) => *mark,
            _ => return None,
        };
        Some(match mark {
            "==" => (0, Operator::Compare(Compare::Equal)),
            "!=" => (0, Operator::Compare(Compare::Unequal)),
            "<" => (0, Operator::Compare(Compare::Less)),
            "<=" => (0, Operator::Compare(Compare::LessOrEqual)),
            ">" => (0, Operator::Compare(Compare::Greater)),
            ">=" => (0, Operator::Compare(Compare::GreaterOrEqual)),
            "+" => (1, Operator::Arithmetic(Arithmetic::Add)),
            "-" => (1, Operator::Arithmetic(Arithmetic::Subtract)),
            "*" => (2, Operator::Arithmetic(Arithmetic::Multiply)),
            "/" => (2, Operator::Arithmetic(Arithmetic::Divide)),
            "%" => (2, Operator::Arithmetic(Arithmetic::Remainder)),
            _ => return None,
        })
    }

    fn unary(&mut self) -> Result<Expr, ExpressionFault> {
        let start = self.span().start;
        if self.take("!") {
            let inner = self.deeper(Self::unary)?;
            let span = start..inner.span.end;
            return node(span, Node::Not(Box::new(inner)));
        }
        if self.take("-") {
            let span = start..self.span().end;
            let number = match *self.peek() {
                // The smallest number has no positive twin.
                Kind::Integer(number) => 0_i64.checked_sub_unsigned(number).map(Node::Integer),
                Kind::Double(number) => Some(Node::Double(-number)),
                _ => {
                    let inner = self.deeper(Self::unary)?;
                    let span = start..inner.span.end;
                    return node(span, Node::Negative(Box::new(inner)));
                }
            };
            self.advance();
            let number = number.ok_or_else(|| too_large(self.source, span.clone()))?;
            let expr = node(span, number)?;
            return self.members(expr);
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expr, ExpressionFault> {
        let span = self.span();
        let expr = match self.peek().clone() {
            Kind::Integer(number) => {
                let number =
                    i64::try_from(number).map_err(|_| too_large(self.source, span.clone()))?;
                self.advance();
                node(span, Node::Integer(number))?
            }
            Kind::Double(number) => {
                self.advance();
                node(span, Node::Double(number))?
            }
            Kind::Text(text) => {
                self.advance();
                node(span, Node::Text(text))?
            }
            Kind::Word(word) if word == "true" || word == "false" => {
                self.advance();
                node(span, Node::Boolean(word == "true"))?
            }
            Kind::Word(word) if !RESERVED.contains(&word.as_str()) => {
                self.advance();
                if matches!(self.peek(), Kind::Mark("(")) {
                    self.global(&word, span)?
                } else {
                    path::read(self, &word, span)?
                }
            }
            Kind::Mark("(") => {
                self.advance();
                let mut inner = self.expression()?;
                if matches!(self.peek(), Kind::Mark(",")) {
                    let mut fault = self.unexpected("`)`");
                    fault.help = Some("a list is written in square brackets: `[a, b]`".to_owned());
                    return Err(fault);
                }
                let end = self.expect(")")?;
                inner.span = span.start..end;
                inner
            }
            Kind::Mark("[") => {
                self.advance();
                let (items, end) = self.items("]")?;
                node(span.start..end, Node::List(items))?
            }
            Kind::Mark(mark @ ("&&" | "||" | "==" | "!=" | "<" | "<=" | ">" | ">=")) => {
                let message = format!("`{mark}` has no value before it");
                return Err(ExpressionFault::new(span, message));
            }
            Kind::Word(_) | Kind::Mark(_) | Kind::End => return Err(self.unexpected("a value")),
        };
        self.members(expr)
    }

    /// Expressions up to the closing bracket, and the end of that bracket.
    fn items(&mut self, close: &'static str) -> Result<(Vec<Expr>, usize), ExpressionFault> {
        let mut items = Vec::new();
        loop {
            let end = self.span().end;
            if self.take(close) {
                return Ok((items, end));
            }
            items.push(self.expression()?);
            let end = self.span().end;
            if self.take(close) {
                return Ok((items, end));
            }
            if !self.take(",") {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
    }

    /// `.method(…)` after a value.
    fn members(&mut self, mut expr: Expr) -> Result<Expr, ExpressionFault> {
        loop {
            let start = self.span();
            if self.take("[") {
                let message = "a value is not taken apart by brackets";
                return Err(ExpressionFault::new(start, message));
            }
            if !self.take(".") {
                return Ok(expr);
            }
            let span = self.span();
            let Kind::Word(name) = self.peek().clone() else {
                return Err(self.unexpected("a name"));
            };
            self.advance();
            if !matches!(self.peek(), Kind::Mark("(")) {
                let message = format!("this value has no field `{name}`");
                return Err(ExpressionFault::new(span, message));
            }
            expr = self.method(expr, &name, span)?;
        }
    }

    pub(super) fn method(
        &mut self,
        on: Expr,
        name: &str,
        span: Range<usize>,
    ) -> Result<Expr, ExpressionFault> {
        let known = Function::METHODS.iter().find(|(word, _)| *word == name);
        let Some((_, function)) = known else {
            return Err(unknown_function(
                name,
                span,
                &Function::METHODS.map(|(word, _)| word),
            ));
        };
        self.advance();
        let (given, end) = self.items(")")?;
        let wanted = usize::from(*function != Function::Size);
        let whole = on.span.start..end;
        if given.len() != wanted {
            return Err(wrong_count(name, wanted, given.len(), span));
        }
        let mut items = vec![on];
        items.extend(given);
        node(whole, Node::Call(*function, items))
    }

    fn global(&mut self, name: &str, span: Range<usize>) -> Result<Expr, ExpressionFault> {
        if let Some(fault) = dialect::operator(name, span.clone()) {
            return Err(fault);
        }
        let known = Function::GLOBAL.iter().find(|(word, _)| *word == name);
        if known.is_none() && name != "has" {
            let words = [&["has"][..], &Function::GLOBAL.map(|(word, _)| word)].concat();
            return Err(unknown_function(name, span, &words));
        }
        self.advance();
        let (mut given, end) = self.items(")")?;
        let whole = span.start..end;
        if given.len() != 1 {
            return Err(wrong_count(name, 1, given.len(), span));
        }
        let argument = given.swap_remove(0);
        let Some((_, function)) = known else {
            return match argument.node {
                Node::Variable(variable) => node(whole, Node::Has(variable)),
                _ => {
                    let message = "`has` takes one name, as in has(stages.train.metrics.auc)";
                    Err(ExpressionFault::new(argument.span, message))
                }
            };
        };
        node(whole, Node::Call(*function, vec![argument]))
    }
}

#[derive(Clone, Copy)]
enum Operator {
    Compare(Compare),
    In,
    Arithmetic(Arithmetic),
}

pub(super) fn node(span: Range<usize>, node: Node) -> Result<Expr, ExpressionFault> {
    let expr = Expr::new(span, node);
    if expr.depth > DEEPEST {
        return Err(too_deep(expr.span));
    }
    Ok(expr)
}

fn too_deep(span: Range<usize>) -> ExpressionFault {
    let message = format!("the expression is nested deeper than {DEEPEST}");
    ExpressionFault::new(span, message)
}

fn too_large(source: &str, span: Range<usize>) -> ExpressionFault {
    let message = format!("the number {} is too large", &source[span.clone()]);
    ExpressionFault::new(span, message)
}

fn wrong_count(name: &str, wanted: usize, given: usize, span: Range<usize>) -> ExpressionFault {
    let values = if wanted == 1 { "value" } else { "values" };
    let message = format!("`{name}` takes {wanted} {values}, not {given}");
    ExpressionFault::new(span, message)
}

fn unknown_function(name: &str, span: Range<usize>, known: &[&str]) -> ExpressionFault {
    let mut fault = ExpressionFault::new(
        span,
        format!("there is no function `{}`", super::shown(name)),
    );
    fault.help = Some(match dialect::function(name) {
        Some(help) => help.to_owned(),
        None => match crate::dag::nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there is {}", known.join(", ")),
        },
    });
    fault
}
