//! What a rule does besides routing, as proxies are told: redirect, direct response, rewrite, fault, mirrors, CORS.

use tsunagi_proto::wire::mesh;

use super::routes::{duration, string};
use crate::config::{Abort, CorsPolicy, Delay, DirectResponse, Fault, Mirror, Redirect, RedirectPort, Rewrite};

pub(super) fn redirect(redirect: &Redirect) -> mesh::Redirect {
    use mesh::redirect::{Path, RedirectPort as Port};
    let uri = redirect.uri.clone().map(Path::Uri);
    mesh::Redirect {
        path: uri.or_else(|| redirect.prefix_rewrite.clone().map(Path::PrefixRewrite)),
        authority: redirect.authority.clone(),
        scheme: redirect.scheme.clone(),
        redirect_port: redirect.port.map(|port| match port {
            RedirectPort::Number(number) => Port::Port(u32::from(number)),
            RedirectPort::FromProtocolDefault => Port::DerivePort(mesh::DerivePort::FromProtocolDefault.into()),
            RedirectPort::FromRequestPort => Port::DerivePort(mesh::DerivePort::FromRequestPort.into()),
        }),
        // 301 is what saying nothing means.
        code: redirect.code.filter(|code| *code != 301).map_or(0, u32::from),
    }
}

pub(super) fn direct_response(response: &DirectResponse) -> mesh::DirectResponse {
    mesh::DirectResponse {
        status: u32::from(response.status),
        body: response.body.clone(),
    }
}

pub(super) fn rewrite(rewrite: &Rewrite) -> mesh::Rewrite {
    use mesh::rewrite::Path;
    let regex = rewrite
        .uri_regex
        .clone()
        .map(|(pattern, substitution)| Path::UriRegex(mesh::RegexRewrite { pattern, substitution }));
    mesh::Rewrite {
        path: rewrite.uri.clone().map(Path::Uri).or(regex),
        authority: rewrite.authority.clone(),
    }
}

/// `None`: it never happens.
pub(super) fn fault(fault: &Fault) -> Option<mesh::Fault> {
    let happens = |(per_million, _): &(u32, _)| *per_million > 0;
    let delay = fault.delay.filter(happens).map(|(per_million, delay)| {
        use mesh::delay::Kind;
        mesh::Delay {
            per_million,
            kind: match delay {
                Delay::Fixed(time) => duration(Some(time)).map(Kind::Fixed),
                Delay::Exponential(mean) => duration(Some(mean)).map(Kind::Exponential),
            },
        }
    });
    let abort = fault.abort.filter(|(per_million, _)| *per_million > 0);
    let abort = abort.map(|(per_million, abort)| {
        use mesh::abort::Kind;
        mesh::Abort {
            per_million,
            kind: Some(match abort {
                Abort::HttpStatus(status) => Kind::HttpStatus(u32::from(status)),
                Abort::GrpcStatus(status) => Kind::GrpcStatus(u32::from(status)),
                Abort::Http2Error(code) => Kind::Http2Error(code),
            }),
        }
    });
    (delay.is_some() || abort.is_some()).then_some(mesh::Fault { delay, abort })
}

/// Those that get requests.
pub(super) fn mirrors(mirrors: &[Mirror]) -> Vec<mesh::Mirror> {
    let reachable = mirrors.iter().filter(|mirror| mirror.per_million > 0);
    reachable
        .map(|mirror| mesh::Mirror {
            host: mirror.host.clone(),
            port: mirror.port.map(u32::from).unwrap_or_default(),
            subset: mirror.subset.clone(),
            per_million: mirror.per_million,
        })
        .collect()
}

pub(super) fn cors(policy: &CorsPolicy) -> mesh::CorsPolicy {
    let unmatched = if policy.forward_unmatched_preflights {
        mesh::UnmatchedPreflights::Forward
    } else {
        mesh::UnmatchedPreflights::Ignore
    };
    mesh::CorsPolicy {
        allow_origins: policy.allow_origins.iter().map(string).collect(),
        allow_methods: policy.allow_methods.clone(),
        allow_headers: policy.allow_headers.clone(),
        expose_headers: policy.expose_headers.clone(),
        // Zero is said, too: nothing is remembered.
        max_age: policy.max_age.and_then(|age| age.try_into().ok()),
        allow_credentials: policy.allow_credentials,
        unmatched_preflights: unmatched.into(),
    }
}
