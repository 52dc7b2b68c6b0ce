//! The policies of a rule in words.

use std::time::Duration;

use http::HeaderName;
use tsunagi_proto::model::{
    self, AbortKind, CorsPolicy, DelayKind, Fault, HeaderOperations, HttpRule, RetryOn, RetryPolicy, RouteAction,
};

use super::answer::{Mirror, Policies};

/// Percent.
pub(super) fn percent(per_million: u32) -> f64 {
    f64::from(per_million) / 10_000.0
}

fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}

pub(super) fn of_rule(rule: &HttpRule) -> Policies {
    let mut policies = Policies {
        faults: rule.fault.as_ref().map(faults).unwrap_or_default(),
        cors: rule.cors.as_ref().map(cors),
        request_headers: operations(&rule.request_headers),
        response_headers: operations(&rule.response_headers),
        ..Policies::default()
    };
    if let Some(route) = rule.route() {
        add_route(&mut policies, route);
    }
    policies
}

fn add_route(policies: &mut Policies, route: &RouteAction) {
    policies.timeout = route.timeout.map(duration);
    policies.retries = retries(&route.retries);
    policies.mirrors = route
        .mirrors
        .iter()
        .map(|mirror| Mirror {
            host: mirror.host.clone(),
            port: mirror.port,
            subset: mirror.subset.clone(),
            percentage: percent(mirror.per_million),
        })
        .collect();
    for (number, to) in route.destinations.iter().enumerate() {
        let of = |text: String| format!("{text} (route[{number}])");
        policies
            .request_headers
            .extend(operations(&to.request_headers).into_iter().map(of));
        policies
            .response_headers
            .extend(operations(&to.response_headers).into_iter().map(of));
    }
}

/// Without a VirtualService.
pub(super) fn default() -> Policies {
    Policies {
        retries: retries(&RetryPolicy::default()),
        ..Policies::default()
    }
}

fn retries(policy: &RetryPolicy) -> String {
    if policy.attempts == 0 {
        return "none".to_owned();
    }
    let each = policy.per_try_timeout.map(duration);
    let attempts = policy.attempts;
    if policy.on.explicit {
        let each = each.map(|limit| format!(", {limit} each"));
        return format!("{attempts}, {}{}", conditions(&policy.on), each.unwrap_or_default());
    }
    let times = if attempts == 1 {
        "once"
    } else {
        &format!("up to {attempts} times")
    };
    let each = each.map(|limit| format!("; {limit} each"));
    let answers = if policy.on.grpc.is_empty() {
        "never after an answer".to_owned()
    } else {
        format!(
            "after an answer {} alone",
            conditions(&RetryOn {
                grpc: policy.on.grpc.clone(),
                ..RetryOn::default()
            })
        )
    };
    format!(
        "{times} where no answer began, if unprocessed or idempotent; {answers}{}",
        each.unwrap_or_default()
    )
}

/// As `retryOn` calls them. Every field is named: a condition that is not shown does not compile.
fn conditions(on: &RetryOn) -> String {
    let RetryOn {
        explicit: _,
        any_5xx,
        gateway_error,
        reset,
        reset_before_request,
        connect_failure,
        refused_stream,
        retriable_4xx,
        envoy_ratelimited,
        status_codes,
        grpc,
    } = on;
    let flags = [
        (any_5xx, "5xx"),
        (gateway_error, "gateway-error"),
        (reset, "reset"),
        (reset_before_request, "reset-before-request"),
        (connect_failure, "connect-failure"),
        (refused_stream, "refused-stream"),
        (retriable_4xx, "retriable-4xx"),
        (envoy_ratelimited, "envoy-ratelimited"),
    ];
    let set = flags
        .iter()
        .filter(|(set, _)| **set)
        .map(|(_, name)| (*name).to_owned());
    let codes = status_codes.iter().map(u16::to_string);
    let grpc = grpc.iter().map(|status| match status {
        1 => "cancelled".to_owned(),
        4 => "deadline-exceeded".to_owned(),
        8 => "resource-exhausted".to_owned(),
        13 => "internal".to_owned(),
        14 => "unavailable".to_owned(),
        other => format!("grpc-status {other}"),
    });
    let all: Vec<String> = set.chain(grpc).chain(codes).collect();
    if all.is_empty() {
        return "on nothing that can come true".to_owned();
    }
    format!("on {}", all.join(","))
}

fn faults(fault: &Fault) -> Vec<String> {
    let of = |per_million, what: String| format!("{} % of requests: {what}", percent(per_million));
    let delay = fault.delay.as_ref().map(|delay| {
        let how = match delay.kind {
            DelayKind::Fixed(time) => format!("delayed by {}", duration(time)),
            DelayKind::Exponential(mean) => format!("delayed by {} on average", duration(mean)),
        };
        of(delay.per_million, how)
    });
    let abort = fault.abort.as_ref().map(|abort| {
        let how = match abort.kind {
            AbortKind::HttpStatus(status) => format!("{} FI", status.as_u16()),
            AbortKind::GrpcStatus(status) => format!("grpc-status {status} FI"),
            AbortKind::Http2Error(code) => format!("HTTP/2 error {code} FI"),
        };
        of(abort.per_million, how)
    });
    delay.into_iter().chain(abort).collect()
}

fn cors(policy: &CorsPolicy) -> String {
    let credentials = if policy.allow_credentials {
        ", with credentials"
    } else {
        ""
    };
    let methods = policy.allow_methods.as_ref().and_then(|methods| methods.to_str().ok());
    let methods = methods.map(|methods| format!(", {methods}")).unwrap_or_default();
    format!("{} allowed origins{methods}{credentials}", policy.allow_origins.len())
}

fn operations(operations: &HeaderOperations) -> Vec<String> {
    let named = |what: &'static str| move |name: &HeaderName| format!("{what} {name}");
    let removed = operations.remove.iter().map(named("remove"));
    let set = operations.set.iter().map(|(name, _)| named("set")(name));
    let added = operations.add.iter().map(|(name, _)| named("add")(name));
    removed.chain(set).chain(added).collect()
}

pub(super) fn state(health: model::Health) -> &'static str {
    match health {
        model::Health::Healthy => "HEALTHY",
        model::Health::Draining => "DRAINING",
        model::Health::Unhealthy => "UNHEALTHY",
    }
}

#[cfg(test)]
mod tests {
    use tsunagi_proto::wire::mesh;

    use super::*;

    #[test]
    fn every_condition_of_retries_is_told_as_it_is_written() {
        let on = RetryOn {
            explicit: true,
            any_5xx: true,
            gateway_error: true,
            reset: true,
            reset_before_request: true,
            connect_failure: true,
            refused_stream: true,
            retriable_4xx: true,
            envoy_ratelimited: true,
            status_codes: vec![418],
            grpc: vec![1, 4, 8, 13, 14],
        };
        let wanted = "on 5xx,gateway-error,reset,reset-before-request,connect-failure,refused-stream,retriable-4xx,\
                      envoy-ratelimited,cancelled,deadline-exceeded,resource-exhausted,internal,unavailable,418";
        assert_eq!(conditions(&on), wanted);
    }

    #[test]
    fn default_retries_are_no_promise_for_answers_of_endpoints() {
        let wanted = "up to 2 times where no answer began, if unprocessed or idempotent; never after an answer";
        let retries = |policy: &RetryPolicy| super::retries(policy);
        assert_eq!(retries(&RetryPolicy::default()), wanted);
        let limited = RetryPolicy {
            attempts: 1,
            per_try_timeout: Some(Duration::from_secs(2)),
            ..RetryPolicy::default()
        };
        let wanted = wanted.replace("up to 2 times", "once") + "; 2s each";
        assert_eq!(retries(&limited), wanted);
        let of_rule = RetryPolicy::try_from(mesh::RetryPolicy {
            attempts: 2,
            ..mesh::RetryPolicy::default()
        });
        let wanted = "up to 2 times where no answer began, if unprocessed or idempotent; after an answer \
                      on cancelled,unavailable alone";
        assert_eq!(retries(&of_rule.unwrap()), wanted);
    }
}
