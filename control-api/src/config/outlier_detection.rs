//! `outlierDetection`: when an endpoint gets no requests for a while, with Istio's defaults filled in. Checked as Istio
//! checks it (validation.go: validateOutlierDetection). Called by `traffic_policy`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::read::{Field, Fields};

/// A count of 0 is off.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`, else the old `consecutiveErrors`. Default 5.
    pub consecutive_5xx: u32,
    /// `consecutiveGatewayErrors`. Default off.
    pub consecutive_gateway_errors: u32,
    /// `splitExternalLocalOriginErrors`. Default false.
    pub split_local_origin_errors: bool,
    /// `consecutiveLocalOriginFailures`. Default 5, off unless split.
    pub consecutive_local_origin_failures: u32,
    /// Default 10 s.
    pub interval: Duration,
    /// Default 30 s.
    pub base_ejection_time: Duration,
    /// 1 to 100. Default 10.
    pub max_ejection_percent: u32,
    /// 0 to 100. Default 0: health is never ignored.
    pub min_health_percent: u32,
    /// `outlierDetectionHttpErrorCodes`, 100 to 599, sorted. Empty: 500 to 599.
    pub error_statuses: Vec<u16>,
    /// The rule's annotation `tsunagi.io/outlier-detection: envoy`: the percentage alone decides how many may be ejected, and
    /// they return with no probe. Default false.
    pub as_envoy: bool,
}

pub(super) const OUTLIER: Fields = Fields {
    supported: &[
        "consecutiveErrors",
        "consecutive5xxErrors",
        "consecutiveGatewayErrors",
        "splitExternalLocalOriginErrors",
        "consecutiveLocalOriginFailures",
        "interval",
        "baseEjectionTime",
        "maxEjectionPercent",
        "minHealthPercent",
        "outlierDetectionHttpErrorCodes",
    ],
    later: &[],
};

/// Istio's, and Envoy's, number of consecutive errors.
const CONSECUTIVE_ERRORS: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION_TIME: Duration = Duration::from_secs(30);
const MAX_EJECTION_PERCENT: u32 = 10;

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: CONSECUTIVE_ERRORS,
            consecutive_gateway_errors: 0,
            split_local_origin_errors: false,
            consecutive_local_origin_failures: 0,
            interval: INTERVAL,
            base_ejection_time: BASE_EJECTION_TIME,
            max_ejection_percent: MAX_EJECTION_PERCENT,
            min_health_percent: 0,
            error_statuses: Vec::new(),
            as_envoy: false,
        }
    }
}

pub(super) fn read(block: &Field<'_>) -> OutlierDetection {
    let mut read = OutlierDetection::default();
    if !block.is_message(&OUTLIER) {
        return read;
    }
    let count = |name| block.get(name).and_then(|field| field.unsigned());
    let time = |name| block.get(name).and_then(|field| field.positive_duration());
    // Zero in the old field is not set; in the new one it is off.
    let old = block.get("consecutiveErrors").and_then(|field| field.count());
    read.consecutive_5xx = count("consecutive5xxErrors")
        .or(old.filter(|count| *count > 0))
        .unwrap_or(CONSECUTIVE_ERRORS);
    read.consecutive_gateway_errors = count("consecutiveGatewayErrors").unwrap_or(0);
    read_local_origin(block, &mut read);
    read.interval = time("interval").unwrap_or(INTERVAL);
    read.base_ejection_time = time("baseEjectionTime").unwrap_or(BASE_EJECTION_TIME);
    read.max_ejection_percent = percent(block, "maxEjectionPercent")
        .filter(|percent| *percent > 0)
        .unwrap_or(MAX_EJECTION_PERCENT);
    read.min_health_percent = percent(block, "minHealthPercent").unwrap_or(0);
    read.error_statuses = block
        .get("outlierDetectionHttpErrorCodes")
        .map(|list| statuses(&list))
        .unwrap_or_default();
    read
}

fn read_local_origin(block: &Field<'_>, read: &mut OutlierDetection) {
    read.split_local_origin_errors = block
        .get("splitExternalLocalOriginErrors")
        .and_then(|field| field.flag())
        .unwrap_or(false);
    let failures = block
        .get("consecutiveLocalOriginFailures")
        .and_then(|field| field.unsigned())
        .filter(|count| *count > 0);
    if read.split_local_origin_errors {
        read.consecutive_local_origin_failures = failures.unwrap_or(CONSECUTIVE_ERRORS);
    } else if failures.is_some() {
        block.refuse_at(
            "consecutiveLocalOriginFailures",
            "has no effect unless splitExternalLocalOriginErrors is true",
        );
    }
}

fn percent(block: &Field<'_>, name: &str) -> Option<u32> {
    let percent = block.get(name)?.number(0, 100)?;
    u32::try_from(percent).ok()
}

fn statuses(list: &Field<'_>) -> Vec<u16> {
    let items = list.items();
    let statuses: BTreeSet<u16> = items
        .iter()
        .filter_map(|item| item.number(100, 599))
        .filter_map(|status| u16::try_from(status).ok())
        .collect();
    statuses.into_iter().collect()
}
