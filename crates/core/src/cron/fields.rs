//! The five fields of a cron expression, each by its own rules.
//!
//! 1. croner replaces names wherever they stand, skips empty items and takes any step, so that an expression runs at
//!    other times than it seems to. Those are faults here, with the expression that was probably meant.
//! 2. Each field is checked apart from the others, so that all faults are reported at once.

use std::ops::RangeInclusive;

use super::CronFault;

const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];

/// The rules of one field.
struct Field {
    name: &'static str,
    /// The name of its numbers, in the plural.
    plural: &'static str,
    values: RangeInclusive<u32>,
    /// How many different values there are: Sunday is 0 and 7.
    width: u32,
    /// The unit that steps are counted in.
    within: &'static str,
    /// Names of its values, from `first_name` on.
    names: &'static [&'static str],
    first_name: u32,
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        plural: "minutes",
        values: 0..=59,
        width: 60,
        within: "hour",
        names: &[],
        first_name: 0,
    },
    Field {
        name: "hour",
        plural: "hours",
        values: 0..=23,
        width: 24,
        within: "day",
        names: &[],
        first_name: 0,
    },
    Field {
        name: "day of month",
        plural: "days of a month",
        values: 1..=31,
        width: 31,
        within: "month",
        names: &[],
        first_name: 0,
    },
    Field {
        name: "month",
        plural: "months",
        values: 1..=12,
        width: 12,
        within: "year",
        names: &MONTHS,
        first_name: 1,
    },
    Field {
        name: "day of week",
        plural: "days of a week",
        values: 0..=7,
        width: 7,
        within: "week",
        names: &WEEKDAYS,
        first_name: 0,
    },
];

const DAY_OF_MONTH: usize = 2;
const MONTH: usize = 3;
const DAY_OF_WEEK: usize = 4;

/// The fault, and the text that was probably meant.
struct Wrong {
    message: String,
    help: Option<String>,
}

impl Wrong {
    fn new(message: String, help: impl Into<Option<String>>) -> Self {
        Self {
            message,
            help: help.into(),
        }
    }
}

/// Reads five fields of `text`: each with its names replaced by their numbers, or the faults.
pub(super) fn read(text: &str, fields: &[&str; 5]) -> Result<[String; 5], Vec<CronFault>> {
    let mut read = [const { String::new() }; 5];
    let mut faults = Vec::new();
    let mut fault = |part: &str, wrong: Wrong| {
        let start = part.as_ptr() as usize - text.as_ptr() as usize;
        faults.push(CronFault {
            message: wrong.message,
            help: wrong.help,
            range: start..start + part.len(),
        });
    };
    for (at, written) in fields.iter().enumerate() {
        match field(at, written) {
            Ok(plain) => read[at] = plain,
            Err(wrong) => fault(written, wrong),
        }
    }
    if !read[DAY_OF_MONTH].is_empty()
        && let Some(wrong) = day_that_never_comes(&read)
    {
        fault(fields[DAY_OF_MONTH], wrong);
    }
    if faults.is_empty() {
        Ok(read)
    } else {
        Err(faults)
    }
}

fn field(at: usize, written: &str) -> Result<String, Wrong> {
    let items: Vec<&str> = written.split(',').collect();
    if items.contains(&"") {
        let rest: Vec<&str> = items.into_iter().filter(|item| !item.is_empty()).collect();
        let help = (!rest.is_empty()).then(|| did_you_mean(&rest.join(",")));
        return Err(Wrong::new(
            format!("an item is missing in the list `{written}`"),
            help,
        ));
    }
    if items.len() > 1 && items.contains(&"*") {
        let message = format!(
            "`{written}` is the same as `*`, which is every {}",
            FIELDS[at].name
        );
        let rest: Vec<&str> = items.into_iter().filter(|item| *item != "*").collect();
        let meant = if rest.is_empty() {
            "*".to_owned()
        } else {
            rest.join(",")
        };
        return Err(Wrong::new(message, did_you_mean(&meant)));
    }
    let read: Result<Vec<String>, Wrong> = items.into_iter().map(|item| one(at, item)).collect();
    Ok(read?.join(","))
}

/// One item of a list.
fn one(at: usize, item: &str) -> Result<String, Wrong> {
    let field = &FIELDS[at];
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let (low, high) = match range.split_once('-') {
        _ if range == "*" => (*field.values.start(), *field.values.end()),
        Some((low, high)) => {
            let (first, mut last) = (number(at, low)?, number(at, high)?);
            // As the end of a range, Sunday comes after Saturday.
            if at == DAY_OF_WEEK && last == 0 && first > 0 {
                last = 7;
            }
            if first > last {
                return Err(backwards(field, item, (low, first), (high, last), step));
            }
            (first, last)
        }
        None if step.is_none() => return value(at, item),
        None => {
            let meant = match range {
                "" => "*".to_owned(),
                _ => format!("{}-{}", number(at, range)?, field.values.end()),
            };
            return Err(Wrong::new(
                format!(
                    "`{item}` is not a valid {}: a step needs `*` or a range",
                    field.name
                ),
                did_you_mean(&format!("{meant}/{}", step.unwrap_or_default())),
            ));
        }
    };
    let Some(step) = step else {
        return Ok(if range == "*" {
            range.to_owned()
        } else {
            format!("{low}-{high}")
        });
    };
    let by = digits(step).filter(|by| *by > 0).ok_or_else(|| {
        let message = format!("`{step}` is not a valid step: a step is a number from 1 on");
        Wrong::new(message, None)
    })?;
    let width = field.width.min(high - low + 1);
    if by > width {
        let help = format!("steps start again in each {}; write `{low}`", field.within);
        return Err(Wrong::new(
            format!(
                "a step of {by} is wider than its range of {width} {}: `{item}` is the same as `{low}`",
                field.plural
            ),
            help,
        ));
    }
    Ok(if range == "*" {
        format!("*/{by}")
    } else {
        format!("{low}-{high}/{by}")
    })
}

fn backwards(
    field: &Field,
    item: &str,
    (low, first): (&str, u32),
    (high, last): (&str, u32),
    step: Option<&str>,
) -> Wrong {
    let message = format!("the range `{item}` is backwards");
    let named = digits(low).is_none() && digits(high).is_none();
    let name = |value: u32| match field.names.get((value - field.first_name) as usize) {
        Some(name) if named => (*name).to_owned(),
        _ => value.to_string(),
    };
    let (least, most) = (
        *field.values.start(),
        *field.values.start() + field.width - 1,
    );
    let range = |from: u32, to: u32| {
        if from == to {
            name(from)
        } else {
            format!("{}-{}", name(from), name(to))
        }
    };
    let help = match step {
        // It would go on past the end of the field, which cron cannot express.
        Some(_) => None,
        None if first > most => Some(did_you_mean(&range(least, last))),
        None => Some(did_you_mean(&format!(
            "{},{}",
            range(first, most),
            range(least, last)
        ))),
    };
    Wrong::new(message, help)
}

/// A single value, also one that depends on the month.
fn value(at: usize, item: &str) -> Result<String, Wrong> {
    let upper = item.to_ascii_uppercase();
    match (at, upper.as_str()) {
        (DAY_OF_MONTH, "L" | "LW") => return Ok(upper),
        (DAY_OF_WEEK, "L") => {
            return Err(Wrong::new(
                "`L` is not a valid day of week: it needs a day before it".to_owned(),
                "`5L` is the last Friday of the month, `6` is each Saturday".to_owned(),
            ));
        }
        _ => {}
    }
    if at == DAY_OF_MONTH && upper.len() > 1 && upper.ends_with('W') {
        return Ok(format!("{}W", number(at, &item[..item.len() - 1])?));
    }
    if at == DAY_OF_WEEK {
        if let Some((day, nth)) = item.split_once('#') {
            let day = number(at, day)? % 7;
            let nth = digits(nth).filter(|nth| (1..=5).contains(nth));
            let nth = nth.ok_or_else(|| {
                let message =
                    format!("`{item}` is not a valid day of week: the number after `#` is 1 to 5");
                Wrong::new(
                    message,
                    "`5#2` is the second Friday of the month".to_owned(),
                )
            })?;
            return Ok(format!("{day}#{nth}"));
        }
        if upper.len() > 1 && upper.ends_with('L') {
            return Ok(format!("{}L", number(at, &item[..item.len() - 1])? % 7));
        }
    }
    number(at, item).map(|number| number.to_string())
}

fn number(at: usize, text: &str) -> Result<u32, Wrong> {
    let field = &FIELDS[at];
    let named = |names: &[&str]| {
        names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text))
    };
    if let Some(place) = named(field.names) {
        return Ok(field.first_name + u32::try_from(place).unwrap_or_default());
    }
    let invalid = |why: String| format!("`{text}` is not a valid {}: {why}", field.name);
    let (least, most) = (field.values.start(), field.values.end());
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match digits(text).filter(|number| field.values.contains(number)) {
            Some(number) => Ok(number),
            None => Err(Wrong::new(
                invalid(format!("{} are {least} to {most}", field.plural)),
                (at < DAY_OF_MONTH && digits(text) == Some(field.width)).then(|| did_you_mean("0")),
            )),
        };
    }
    let elsewhere = "names of months stand in the fourth field, names of days in the fifth";
    if named(&MONTHS).is_some() {
        let why = "this is a month".to_owned();
        return Err(Wrong::new(invalid(why), elsewhere.to_owned()));
    }
    if named(&WEEKDAYS).is_some() {
        let why = "this is a day of the week".to_owned();
        return Err(Wrong::new(invalid(why), elsewhere.to_owned()));
    }
    // `Monday`, `Sept`, `Tues`.
    let begins = |name: &&&str| {
        text.get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
            && text.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let help = match (field.names.iter().find(begins), text) {
        (Some(name), _) => Some(did_you_mean(name)),
        (None, "?") => Some(did_you_mean("*")),
        (None, text) if text.starts_with(['H', 'h']) => Some(format!(
            "`H` is a word of Jenkins; write a number, as in `{}`",
            if least == &0 { 17.min(*most) } else { *least }
        )),
        _ => None,
    };
    let or_name = match field.names {
        [first, .., last] => format!(", or {first} to {last}"),
        _ => String::new(),
    };
    Err(Wrong::new(
        invalid(format!("{} are {least} to {most}{or_name}", field.plural)),
        help,
    ))
}

/// Cron takes digits alone; Rust's parser would take a sign too.
fn digits(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// A day that none of the months has, as in `0 0 30 2 *`: with a day of the week next to it, the rest of
/// the expression would run.
fn day_that_never_comes(read: &[String; 5]) -> Option<Wrong> {
    let months: Vec<u32> = read[MONTH].split(',').map(digits).collect::<Option<_>>()?;
    let longest = months.iter().map(|month| days_of(*month)).max()?;
    let day = read[DAY_OF_MONTH].split(',').find_map(|item| {
        let first = item.split(['-', 'W']).next().and_then(digits)?;
        (first > longest).then_some(first)
    })?;
    let names: Vec<&str> = months
        .iter()
        .filter_map(|month| MONTHS.get(*month as usize - 1).copied())
        .collect();
    let has = if months.len() == 1 { "has" } else { "have" };
    let months = names.join(", ");
    if read[DAY_OF_WEEK].starts_with('*') {
        return Some(Wrong::new(
            format!("this never happens: {months} {has} no day {day}"),
            "`L` is the last day of a month".to_owned(),
        ));
    }
    // Where both days are given, either one is enough.
    Some(Wrong::new(
        format!("{months} {has} no day {day}, so only the day of week would count"),
        "write `*` for the day of month to tick by the day of week alone; `L` is the last day of a month".to_owned(),
    ))
}

fn days_of(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn did_you_mean(meant: &str) -> String {
    format!("did you mean `{meant}`?")
}
