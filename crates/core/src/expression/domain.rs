//! Sets of values: each has at least the values that are possible.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::evaluate::{Value, order_mixed, whole};
use super::syntax::{Arithmetic, Compare};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Domain<'a> {
    /// Whether it may be false, and whether it may be true.
    Boolean([bool; 2]),
    Number(Interval),
    Text(Texts<'a>),
    Anything,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Texts<'a> {
    Only(BTreeSet<Cow<'a, str>>),
    AllBut(BTreeSet<Cow<'a, str>>),
}

/// Numbers from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub(super) low: Number,
    pub(super) high: Number,
    /// Whether it is of integers, and both ends are.
    pub(super) is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    /// Never "not a number".
    Double(f64),
}

impl Number {
    fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => one.cmp(&other),
            (Self::Double(one), Self::Double(other)) => {
                one.partial_cmp(&other).unwrap_or(Ordering::Equal)
            }
            (Self::Integer(one), Self::Double(other)) => {
                order_mixed(one, other).unwrap_or(Ordering::Equal)
            }
            (Self::Double(_), Self::Integer(_)) => other.order(self).reverse(),
        }
    }
}

impl<'a> From<Value<'a>> for Domain<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Boolean(truth) => Self::Boolean([!truth, truth]),
            Value::Integer(number) => Self::Number(Interval::one(Number::Integer(number))),
            Value::Double(number) if number.is_nan() => Self::Anything,
            Value::Double(number) => Self::Number(Interval::one(Number::Double(number))),
            Value::Text(text) => Self::Text(Texts::Only(BTreeSet::from([text]))),
        }
    }
}

impl<'a> Domain<'a> {
    /// How much there is to go through.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(Texts::Only(texts) | Texts::AllBut(texts)) => 1 + texts.len(),
            Self::Boolean(_) | Self::Number(_) | Self::Anything => 1,
        }
    }

    /// The values of both sides that are left where the comparison holds; `None` where it never does.
    pub(super) fn relate(compare: Compare, one: Self, other: Self) -> Option<(Self, Self)> {
        match (one, other) {
            (Self::Number(one), Self::Number(other)) => {
                let (one, other) = Interval::relate(compare, one, other)?;
                Some((Self::Number(one), Self::Number(other)))
            }
            (Self::Text(one), Self::Text(other)) => {
                let (one, other) = Texts::relate(compare, one, other)?;
                Some((Self::Text(one), Self::Text(other)))
            }
            (Self::Boolean(one), Self::Boolean(other)) => {
                let (one, other) = relate_booleans(compare, one, other)?;
                Some((Self::Boolean(one), Self::Boolean(other)))
            }
            unknown => Some(unknown),
        }
    }

    pub(super) fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Boolean(one), Self::Boolean(other)) => {
                Self::Boolean([one[0] || other[0], one[1] || other[1]])
            }
            (Self::Number(one), Self::Number(other)) if one.is_whole == other.is_whole => {
                let less = |one: Number, other: Number| one.order(other).is_lt();
                Self::Number(Interval {
                    low: if less(other.low, one.low) {
                        other.low
                    } else {
                        one.low
                    },
                    high: if less(one.high, other.high) {
                        other.high
                    } else {
                        one.high
                    },
                    is_whole: one.is_whole,
                })
            }
            (Self::Text(one), Self::Text(other)) => Self::Text(one.union(other)),
            _ => Self::Anything,
        }
    }
}

impl<'a> Texts<'a> {
    pub(super) fn anything() -> Self {
        Self::AllBut(BTreeSet::new())
    }

    pub(super) fn only(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Only(texts.into_iter().map(Cow::Borrowed).collect())
    }

    fn one(&self) -> Option<&Cow<'a, str>> {
        match self {
            Self::Only(texts) if texts.len() == 1 => texts.first(),
            Self::Only(_) | Self::AllBut(_) => None,
        }
    }

    fn relate(compare: Compare, one: Self, other: Self) -> Option<(Self, Self)> {
        match compare {
            Compare::Equal => {
                let both = one.intersection(other);
                match &both {
                    Self::Only(texts) if texts.is_empty() => None,
                    _ => Some((both.clone(), both)),
                }
            }
            Compare::Unequal => {
                let (left, right) = (one.clone().without(&other), other.without(&one));
                Some((left?, right?))
            }
            Compare::Less | Compare::LessOrEqual | Compare::Greater | Compare::GreaterOrEqual => {
                if let (Some(left), Some(right)) = (one.one(), other.one())
                    && !compare.holds(Some(left.cmp(right)))
                {
                    return None;
                }
                // Nothing comes before the empty text.
                let is_empty = |texts: &Self| texts.one().is_some_and(|text| text.is_empty());
                match compare {
                    Compare::Less if is_empty(&other) => None,
                    Compare::Greater if is_empty(&one) => None,
                    _ => Some((one, other)),
                }
            }
        }
    }

    /// The texts that are one of these and then one of the others.
    pub(super) fn followed_by(&self, other: &Self) -> Self {
        /// Beyond so many, any text counts as possible.
        const PAIRS: usize = 64;
        match (self, other) {
            (Self::Only(one), Self::Only(other)) if one.len() * other.len() <= PAIRS => Self::Only(
                one.iter()
                    .flat_map(|one| {
                        other
                            .iter()
                            .map(move |other| format!("{one}{other}").into())
                    })
                    .collect(),
            ),
            _ => Self::anything(),
        }
    }

    fn intersection(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(one), Self::Only(other)) => Self::Only(
                one.into_iter()
                    .filter(|text| other.contains(text))
                    .collect(),
            ),
            (Self::Only(only), Self::AllBut(out)) | (Self::AllBut(out), Self::Only(only)) => {
                Self::Only(
                    only.into_iter()
                        .filter(|text| !out.contains(text))
                        .collect(),
                )
            }
            (Self::AllBut(mut one), Self::AllBut(other)) => {
                one.extend(other);
                Self::AllBut(one)
            }
        }
    }

    fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(mut one), Self::Only(other)) => {
                one.extend(other);
                Self::Only(one)
            }
            (Self::Only(only), Self::AllBut(out)) | (Self::AllBut(out), Self::Only(only)) => {
                Self::AllBut(
                    out.into_iter()
                        .filter(|text| !only.contains(text))
                        .collect(),
                )
            }
            (Self::AllBut(one), Self::AllBut(other)) => Self::AllBut(
                one.into_iter()
                    .filter(|text| other.contains(text))
                    .collect(),
            ),
        }
    }

    /// The values that are left where it is unequal to the other: all, unless the other can be one text only.
    fn without(self, other: &Self) -> Option<Self> {
        let Some(out) = other.one() else {
            return Some(self);
        };
        match self {
            Self::Only(mut texts) => {
                texts.remove(out);
                (!texts.is_empty()).then_some(Self::Only(texts))
            }
            Self::AllBut(mut texts) => {
                texts.insert(out.clone());
                Some(Self::AllBut(texts))
            }
        }
    }
}

/// As [`Domain::relate`].
fn relate_booleans(
    compare: Compare,
    one: [bool; 2],
    other: [bool; 2],
) -> Option<([bool; 2], [bool; 2])> {
    let swapped = |values: [bool; 2]| [values[1], values[0]];
    let both = |one: [bool; 2], other: [bool; 2]| {
        let both = [one[0] && other[0], one[1] && other[1]];
        both.contains(&true).then_some(both)
    };
    match compare {
        Compare::Equal => both(one, other).map(|values| (values, values)),
        Compare::Unequal => both(one, swapped(other)).map(|values| (values, swapped(values))),
        Compare::Less | Compare::LessOrEqual | Compare::Greater | Compare::GreaterOrEqual => {
            Some((one, other))
        }
    }
}

impl Interval {
    fn one(number: Number) -> Self {
        Self {
            low: number,
            high: number,
            is_whole: matches!(number, Number::Integer(_)),
        }
    }

    fn is_one(&self) -> bool {
        self.low.order(self.high).is_eq()
    }

    fn relate(compare: Compare, one: Self, other: Self) -> Option<(Self, Self)> {
        let (mut left, mut right) = (one, other);
        let is_left = match compare {
            Compare::Equal => {
                left.at_least(other.low, false)
                    && left.at_most(other.high, false)
                    && right.at_least(one.low, false)
                    && right.at_most(one.high, false)
            }
            Compare::Unequal => {
                (!other.is_one() || left.without(other.low))
                    && (!one.is_one() || right.without(one.low))
            }
            Compare::Less | Compare::LessOrEqual => {
                let strict = compare == Compare::Less;
                left.at_most(other.high, strict) && right.at_least(one.low, strict)
            }
            Compare::Greater | Compare::GreaterOrEqual => {
                let strict = compare == Compare::Greater;
                left.at_least(other.low, strict) && right.at_most(one.high, strict)
            }
        };
        is_left.then_some((left, right))
    }

    /// Removes the values beyond a bound at one end, and the bound itself where it is `strict`. Returns
    /// whether any value is left.
    fn cut(&mut self, end: End, bound: Number, strict: bool) -> bool {
        let bound = if self.is_whole {
            match end.integer(bound, strict) {
                Some(bound) => Number::Integer(bound),
                None => return false,
            }
        } else {
            Number::Double(end.double(bound, strict))
        };
        let old = match end {
            End::Low => &mut self.low,
            End::High => &mut self.high,
        };
        if bound.order(*old) == end.inwards() {
            *old = bound;
        }
        self.low.order(self.high).is_le()
    }

    fn at_most(&mut self, bound: Number, strict: bool) -> bool {
        self.cut(End::High, bound, strict)
    }

    fn at_least(&mut self, bound: Number, strict: bool) -> bool {
        self.cut(End::Low, bound, strict)
    }

    /// Removes one number if it lies at an end. Returns whether any value is left.
    fn without(&mut self, number: Number) -> bool {
        let (at_low, at_high) = (
            self.low.order(number).is_eq(),
            self.high.order(number).is_eq(),
        );
        (!at_low || self.at_least(number, true)) && (!at_high || self.at_most(number, true))
    }

    pub(super) fn negated(self) -> Option<Self> {
        let (low, high) = match (self.low, self.high) {
            // The smallest integer has no positive twin.
            (Number::Integer(low), Number::Integer(high)) => (
                Number::Integer(high.checked_neg()?),
                Number::Integer(low.checked_neg().unwrap_or(i64::MAX)),
            ),
            (Number::Double(low), Number::Double(high)) => {
                (Number::Double(-high), Number::Double(-low))
            }
            _ => return Some(self),
        };
        Some(Self { low, high, ..self })
    }

    /// Quotients and remainders of integers by a constant, as [`Self::combine`].
    fn divided(low: i64, high: i64, operator: Arithmetic, by: i64) -> Option<Option<Self>> {
        if by == 0 {
            return Some(None);
        }
        let (low, high) = if operator == Arithmetic::Divide {
            // The smallest integer divided by -1 is too large: it has no value.
            let quotient = |number: i64| number.checked_div(by).unwrap_or(i64::MAX);
            let (one, other) = (quotient(low), quotient(high));
            (one.min(other), one.max(other))
        } else {
            let most = i64::try_from(by.unsigned_abs() - 1).ok()?;
            let low = if low < 0 { -most } else { 0 };
            (low, if high > 0 { most } else { 0 })
        };
        Some(Some(Self {
            low: Number::Integer(low),
            high: Number::Integer(high),
            is_whole: true,
        }))
    }

    /// Results of integers. `None` where it is not known, and `Some(None)` where
    /// every result is too large, so that there is no value.
    pub(super) fn combine(self, operator: Arithmetic, other: &Self) -> Option<Option<Self>> {
        let (
            Number::Integer(low),
            Number::Integer(high),
            Number::Integer(other_low),
            Number::Integer(other_high),
        ) = (self.low, self.high, other.low, other.high)
        else {
            return None;
        };
        if matches!(operator, Arithmetic::Divide | Arithmetic::Remainder) {
            let is_constant = other_low == other_high;
            return is_constant.then(|| Self::divided(low, high, operator, other_low))?;
        }
        let calculate = |one: i64, other: i64| {
            let (one, other) = (i128::from(one), i128::from(other));
            match operator {
                Arithmetic::Add => Some(one + other),
                Arithmetic::Subtract => Some(one - other),
                Arithmetic::Multiply => Some(one * other),
                Arithmetic::Divide | Arithmetic::Remainder => None,
            }
        };
        let corners = [
            calculate(low, other_low)?,
            calculate(low, other_high)?,
            calculate(high, other_low)?,
            calculate(high, other_high)?,
        ];
        let bounds = (i128::from(i64::MIN), i128::from(i64::MAX));
        let low = corners.into_iter().min()?.max(bounds.0);
        let high = corners.into_iter().max()?.min(bounds.1);
        if low > high {
            return Some(None);
        }
        Some(Some(Self {
            low: Number::Integer(i64::try_from(low).ok()?),
            high: Number::Integer(i64::try_from(high).ok()?),
            is_whole: true,
        }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Low,
    High,
}

impl End {
    /// How what is inside lies to what is at this end.
    fn inwards(self) -> Ordering {
        match self {
            Self::Low => Ordering::Greater,
            Self::High => Ordering::Less,
        }
    }

    /// The outermost integer that is not beyond a bound, nor the bound where it is `strict`.
    fn integer(self, bound: Number, strict: bool) -> Option<i64> {
        let (step, outermost) = match self {
            Self::Low => (1, i64::MIN),
            Self::High => (-1, i64::MAX),
        };
        let step = if strict { step } else { 0 };
        match bound {
            Number::Integer(bound) => bound.checked_add(step),
            Number::Double(bound) => {
                let rounded = match self {
                    Self::Low => bound.ceil(),
                    Self::High => bound.floor(),
                };
                match whole(rounded) {
                    Some(integer) if rounded == bound => integer.checked_add(step),
                    Some(integer) => Some(integer),
                    // All integers lie on one side of it.
                    None if (bound > 0.0) == (self == Self::High) => Some(outermost),
                    None => None,
                }
            }
        }
    }

    /// The outermost double that is not beyond a bound, nor the bound where it is `strict`.
    fn double(self, bound: Number, strict: bool) -> f64 {
        let step = |double: f64| match self {
            Self::Low => double.next_up(),
            Self::High => double.next_down(),
        };
        match bound {
            Number::Double(bound) if strict => step(bound),
            Number::Double(bound) => bound,
            #[expect(clippy::cast_precision_loss, reason = "mended just after")]
            Number::Integer(bound) => {
                let mut double = bound as f64;
                // The nearest double lies a step too far out at most.
                for _ in 0..2 {
                    let order = order_mixed(bound, double);
                    if order == Some(self.inwards()) || strict && order == Some(Ordering::Equal) {
                        double = step(double);
                    }
                }
                double
            }
        }
    }
}
