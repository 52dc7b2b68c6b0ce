//! What a YAML scalar is: YAML 1.2's core schema, except that a number with leading zeros stays text, because the
//! versions of YAML read it differently. Also how a value is quoted in a message.

use std::borrow::Cow;

use granit_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// Characters of a value that a message shows.
const SHOWN: usize = 80;

/// Quoted, on one line, cut when long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

pub(super) fn resolve(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let wanted = match tag {
        None if style == ScalarStyle::Plain => return Ok(plain(text)),
        None => "str",
        // `!`: not a plain scalar.
        Some(tag) if tag.parts() == ("", "!") || tag.parts() == ("!", "") => "str",
        Some(tag) => match tag.core_suffix() {
            Some(core) => core,
            None => return Err(format!("the tag {} is not supported", shown(&tag.original()))),
        },
    };
    if wanted == "str" {
        return Ok(Value::String(text.into_owned()));
    }
    let shown_text = shown(&text);
    let value = plain(text);
    let fits = match wanted {
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    if fits {
        Ok(value)
    } else {
        Err(format!("{shown_text} does not fit its tag `!!{wanted}`"))
    }
}

pub(super) fn check_collection_tag(tag: Option<&Tag>, kind: &str) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.core_suffix() == Some(kind) || tag.parts() == ("", "!") => Ok(()),
        Some(tag) => Err(format!("the tag {} is not supported", shown(&tag.original()))),
    }
}

fn plain(text: Cow<'_, str>) -> Value {
    match text.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        number => match integer(number).or_else(|| float(number)) {
            Some(number) => Value::Number(number),
            None => Value::String(text.into_owned()),
        },
    }
}

fn integer(text: &str) -> Option<Number> {
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.len() > 1 && unsigned.starts_with('0') {
        return None;
    }
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<i64>().ok().map(Number::from),
        _ => digits(unsigned, 10),
    }
}

fn digits(text: &str, radix: u32) -> Option<Number> {
    let all = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    all.then(|| u64::from_str_radix(text, radix).ok())
        .flatten()
        .map(Number::from)
}

fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned
        .split_once(['e', 'E'])
        .map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    let fits = !(whole.is_empty() && fraction.is_empty())
        && all_digits(whole)
        && all_digits(fraction)
        && exponent_fits
        && !leading_zero;
    if !fits {
        return None;
    }
    Number::from_f64(text.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plain_scalar_is_what_yaml_1_2_says() {
        for (text, value) in [
            ("~", json!(null)),
            ("", json!(null)),
            ("true", json!(true)),
            ("yes", json!("yes")),
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("+3", json!(3)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("010", json!("010")),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("1.2.3", json!("1.2.3")),
            ("v1", json!("v1")),
            (".", json!(".")),
            ("-", json!("-")),
            ("+", json!("+")),
            ("e5", json!("e5")),
            ("1e", json!("1e")),
            (".inf", json!(".inf")),
            ("30s", json!("30s")),
        ] {
            assert_eq!(resolve(text.into(), ScalarStyle::Plain, None), Ok(value), "{text}");
        }
        assert_eq!(resolve("12".into(), ScalarStyle::DoubleQuoted, None), Ok(json!("12")));
    }

    #[test]
    fn a_long_value_is_cut_in_a_message_and_stays_on_one_line() {
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        assert!(shown(&"ä".repeat(1000)).chars().count() < 100);
    }
}
