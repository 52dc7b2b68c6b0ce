//! Shares of all requests, which Istio writes as percentages: `{value: 0.01}`, or a whole number in fields of old.

use super::read::{Field, Fields};

const PERCENT: Fields = Fields {
    supported: &["value"],
    later: &[],
};
/// Of a million.
pub(super) const ALL: u32 = 1_000_000;
/// What one percent is of a million.
const PERCENT_OF_MILLION: f64 = 10_000.0;
/// The least that a proxy can tell from nothing, in percent.
const LEAST: f64 = 0.0001;

/// Of a million, as for faults: 0, or at least one of a million.
pub(super) fn exact(field: &Field<'_>) -> Option<u32> {
    let value = percent(field)?;
    if value > 0.0 && value < LEAST {
        field.refuse_at("value", format!("{value} is neither 0 nor in the range {LEAST} to 100"));
        return None;
    }
    Some(of_million(value))
}

/// Of a million; less than one of a million is none.
pub(super) fn any(field: &Field<'_>) -> Option<u32> {
    percent(field).map(of_million)
}

/// Of a million, of a whole number of percent.
pub(super) fn whole(field: &Field<'_>) -> Option<u32> {
    let percent = field.number(0, 100)?;
    u32::try_from(percent).ok().map(|percent| percent * (ALL / 100))
}

fn percent(field: &Field<'_>) -> Option<f64> {
    if !field.is_message(&PERCENT) {
        return None;
    }
    field.get("value").map_or(Some(0.0), |value| value.decimal(0.0, 100.0))
}

fn of_million(percent: f64) -> u32 {
    // Between 0 and a million. Rounded, because 0.0003 % must be three although its binary fraction is below.
    (percent * PERCENT_OF_MILLION).round() as u32
}
