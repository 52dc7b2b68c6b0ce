//! One rule of a VirtualService's `http`: exactly one action, and what goes with it. Which fields exclude each other is
//! Istio's (virtualservice.go: validateHTTPRouteConflict, validateAuthorityRewrite).

use super::read::{Field, Fields};
use super::virtual_service::Context;
use super::{HttpRule, Rewrite, cors, fault, http_action, http_match, http_route, mirror};

pub(super) const RULE: Fields = Fields {
    supported: &[
        "name",
        "match",
        "route",
        "redirect",
        "directResponse",
        "delegate",
        "rewrite",
        "timeout",
        "retries",
        "fault",
        "mirror",
        "mirrors",
        "mirrorPercent",
        "mirrorPercentage",
        "corsPolicy",
        "headers",
    ],
    later: &[],
};

pub(super) fn read_list(list: &Field<'_>, context: &Context<'_>) -> Vec<HttpRule> {
    list.items().iter().filter_map(|item| rule(item, context)).collect()
}

fn rule(item: &Field<'_>, context: &Context<'_>) -> Option<HttpRule> {
    let inner = [
        ("match", &http_match::MATCH),
        ("route", &http_route::ROUTE),
        ("retries", &http_route::RETRIES),
        ("redirect", &http_action::REDIRECT),
        ("fault", &fault::FAULT),
        ("corsPolicy", &cors::CORS),
    ];
    if !item.is_message_around(&RULE, &inner) {
        return None;
    }
    conflicts(item, context);
    let matches = item
        .get("match")
        .map(|list| http_match::read_list(&list, context))
        .unwrap_or_default();
    let headers = item.get("headers").map(|field| http_route::read_headers(&field));
    let (headers, authority) = headers.unwrap_or_default();
    let rewrite = item.get("rewrite").and_then(|field| http_action::read_rewrite(&field));
    one_authority(item, rewrite.as_ref(), &authority);
    Some(HttpRule {
        name: item
            .get("name")
            .and_then(|field| field.text())
            .unwrap_or_default()
            .to_owned(),
        route: item
            .get("route")
            .map(|list| http_route::read_list(&list, context.namespace))
            .unwrap_or_default(),
        redirect: item
            .get("redirect")
            .and_then(|field| http_action::read_redirect(&field, &matches)),
        direct_response: item
            .get("directResponse")
            .and_then(|field| http_action::read_direct_response(&field)),
        delegate: item
            .get("delegate")
            .and_then(|field| http_action::read_delegate(&field, context.namespace)),
        rewrite,
        fault: item.get("fault").and_then(|field| fault::read(&field)),
        mirrors: mirror::read(item, context.namespace),
        cors: item.get("corsPolicy").and_then(|field| cors::read(&field)),
        timeout: item.get("timeout").and_then(|field| field.duration()),
        retries: item.get("retries").map(|field| http_route::read_retries(&field)),
        matches,
        headers,
        authority,
    })
}

/// Fields that exclude each other.
fn conflicts(item: &Field<'_>, context: &Context<'_>) {
    let is_set = |name| item.get(name).is_some();
    // Of lists an empty one is none.
    let is_routed = item
        .get("route")
        .is_some_and(|list| !list.is_list() || !list.items().is_empty());
    if is_set("delegate") {
        if context.is_delegate {
            item.refuse_at("delegate", "a rule that was delegated to cannot delegate");
        }
        for name in ["route", "redirect", "directResponse"] {
            if is_set(name) {
                item.refuse_at(
                    name,
                    "a rule with `delegate` leaves this to the rules that it delegates to",
                );
            }
        }
        return;
    }
    for action in ["redirect", "directResponse"].into_iter().filter(|name| is_set(name)) {
        if is_routed {
            item.refuse_at(action, "a rule cannot have both this and `route`");
        }
        for name in ["fault", "rewrite"] {
            if is_set(name) {
                item.refuse_at(name, format!("has no place beside `{action}`"));
            }
        }
    }
    if is_set("redirect") && is_set("directResponse") {
        item.refuse_at("directResponse", "a rule cannot have both this and `redirect`");
    }
    if !is_routed && !is_set("redirect") && !is_set("directResponse") {
        match item.get("route") {
            Some(list) => list.refuse("must not be empty"),
            None => item.refuse_at("route", "is required, or `redirect`, `directResponse` or `delegate`"),
        }
    }
}

fn one_authority(item: &Field<'_>, rewrite: Option<&Rewrite>, of_headers: &str) {
    if !of_headers.is_empty() && rewrite.is_some_and(|rewrite| !rewrite.authority.is_empty()) {
        item.refuse_at("headers", "sets the authority, which `rewrite` does already");
    }
}
