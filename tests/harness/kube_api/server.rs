//! The stand-in's HTTP: discovery as far as `kubectl get` needs it, lists in pages, watches as lines of JSON, patches of
//! statuses. A watch sends a bookmark whenever nothing else happens for a while.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, channel};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Shared;
use super::cluster::{Patched, REGISTRATION, RESOURCES};

const BOOKMARK_PAUSE: Duration = Duration::from_millis(500);

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Resource = (&'static str, &'static str, &'static str, &'static str);

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        stream.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        let mut cut = shared.cut.subscribe();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = connection => drop(ended),
                _ = cut.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What a path means.
struct Target {
    resource: Resource,
    namespace: Option<String>,
    name: Option<String>,
    is_status: bool,
}

fn target(path: &str) -> Option<Target> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let known = |plural: &str| {
        let mut all = RESOURCES.into_iter();
        all.find(|resource| (resource.0, resource.1, resource.2) == (group, version, plural))
    };
    let (plural, name, is_status) = match rest {
        [plural] => (plural, None, false),
        [plural, name] => (plural, Some((*name).to_owned()), false),
        [plural, name, "status"] => (plural, Some((*name).to_owned()), true),
        _ => return None,
    };
    Some(Target {
        resource: known(plural)?,
        namespace,
        name,
        is_status,
    })
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let Some(target) = target(&path).filter(|target| shared.lock().is_installed(target.resource.2)) else {
        return match discovery(shared, &path) {
            Some(found) => reply(StatusCode::OK, &found),
            None => failure(404, "NotFound", "the server could not find the requested resource"),
        };
    };
    if let Some(refused) = forbidden(shared, &target) {
        return refused;
    }
    let query = query(request.uri().query().unwrap_or_default());
    match (request.method(), &target.name) {
        (&Method::GET, Some(name)) => get(shared, &target, name),
        (&Method::GET, None) if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") => {
            watch(shared, target, &query)
        }
        (&Method::GET, None) => list(shared, &target, &query),
        (&Method::PATCH, Some(name)) if target.is_status => {
            let name = name.clone();
            patch(shared, &target, name, &query, request).await
        }
        (&Method::PATCH, Some(name)) => {
            let name = name.clone();
            write(shared, &target, Some(name), request).await
        }
        (&Method::POST, None) | (&Method::PUT, Some(_)) => write(shared, &target, None, request).await,
        _ => failure(405, "MethodNotAllowed", "the stand-in cannot do that"),
    }
}

fn forbidden(shared: &Shared, target: &Target) -> Option<Response<Body>> {
    let suffix = if target.is_status { "/status" } else { "" };
    let what = format!("{}{suffix}", target.resource.2);
    let mut cluster = shared.lock();
    let refused = cluster.forbidden.contains(&what);
    cluster.refusals += usize::from(refused);
    refused.then(|| {
        failure(
            403,
            "Forbidden",
            &format!("{what} is forbidden: no RBAC policy matched"),
        )
    })
}

fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.replace("%2F", "/")))
        .collect()
}

fn discovery(shared: &Shared, path: &str) -> Option<Value> {
    let groups = ["discovery.k8s.io", "networking.istio.io", REGISTRATION];
    match path {
        "/version" => Some(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"})),
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => {
            let group = |name: &str| {
                let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
                json!({"name": name, "versions": [version], "preferredVersion": version})
            };
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.map(group)}))
        }
        _ => {
            let of = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/"))?;
            let (group, version) = of.rsplit_once('/').unwrap_or(("", of));
            let cluster = shared.lock();
            let resources: Vec<Value> = RESOURCES
                .iter()
                .filter(|resource| (resource.0, resource.1) == (group, version) && cluster.is_installed(resource.2))
                .map(|(_, _, plural, kind)| {
                    let singular = kind.to_ascii_lowercase();
                    let verbs = ["get", "list", "watch", "patch"];
                    let namespaced = ![&"namespaces", &"nodes"].contains(&plural) && !plural.ends_with("configurations");
                    json!({"name": plural, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": verbs})
                })
                .collect();
            (!resources.is_empty()).then(
                || json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": of, "resources": resources}),
            )
        }
    }
}

fn api_version((group, version, ..): Resource) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn get(shared: &Shared, target: &Target, name: &str) -> Response<Body> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    match shared.lock().get(target.resource.2, namespace, name) {
        Some(object) => reply(StatusCode::OK, object),
        None => failure(404, "NotFound", "not found"),
    }
}

/// A page; the token for the next one is where it begins.
fn list(shared: &Shared, target: &Target, query: &HashMap<String, String>) -> Response<Body> {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (limit, begin) = (
        number("limit").unwrap_or(usize::MAX),
        number("continue").unwrap_or_default(),
    );
    let mut cluster = shared.lock();
    if begin == 0 {
        *cluster.lists.entry(target.resource.2.to_owned()).or_default() += 1;
    }
    let all: Vec<&Value> = cluster.all(target.resource.2, target.namespace.as_deref()).collect();
    let end = begin.saturating_add(limit).min(all.len());
    // As the real one, items of a list do not say what they are.
    let item = |object: &&Value| {
        let mut object = (*object).clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        object
    };
    let items: Vec<Value> = all[begin.min(end)..end].iter().map(item).collect();
    let next = if end < all.len() {
        end.to_string()
    } else {
        String::new()
    };
    reply(
        StatusCode::OK,
        &json!({
            "kind": format!("{}List", target.resource.3),
            "apiVersion": api_version(target.resource),
            "metadata": {"resourceVersion": cluster.revision.to_string(), "continue": next},
            "items": items,
        }),
    )
}

fn watch(shared: &Arc<Shared>, target: Target, query: &HashMap<String, String>) -> Response<Body> {
    let from: u64 = query
        .get("resourceVersion")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let bookmarks = query.get("allowWatchBookmarks").is_some_and(|text| text == "true");
    let (sender, body) = channel::Channel::new(16);
    tokio::spawn(feed(Arc::clone(shared), target, from, bookmarks, sender));
    let response = Response::builder().header("content-type", "application/json");
    response.body(body.boxed_unsync()).expect("a valid head")
}

/// Until the client goes or the versions expire.
async fn feed(
    shared: Arc<Shared>,
    target: Target,
    mut from: u64,
    bookmarks: bool,
    mut sender: channel::Sender<Bytes, io::Error>,
) {
    let mut changed = shared.changed.subscribe();
    let expiries = shared.lock().expiries;
    loop {
        let (mut lines, is_over) = {
            let cluster = shared.lock();
            if cluster.held {
                (Vec::new(), false)
            } else if from < cluster.oldest || cluster.expiries != expiries {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "reason": "Expired", "message": format!("too old resource version: {from}"), "code": 410});
                (vec![json!({"type": "ERROR", "object": status})], true)
            } else {
                let begin = cluster.history.partition_point(|event| event.revision <= from);
                let news = cluster.history.iter().skip(begin);
                let of_namespace = |object: &Value| {
                    target
                        .namespace
                        .as_ref()
                        .is_none_or(|wanted| object["metadata"]["namespace"] == **wanted)
                };
                let mine = news.filter(|event| event.plural == target.resource.2 && of_namespace(&event.object));
                let lines = mine
                    .map(|event| json!({"type": event.kind, "object": event.object}))
                    .collect();
                from = cluster.revision;
                (lines, false)
            }
        };
        for line in lines.drain(..) {
            if send(&mut sender, &line).await.is_err() {
                return;
            }
        }
        if is_over {
            return;
        }
        if let Ok(Ok(())) = tokio::time::timeout(BOOKMARK_PAUSE, changed.changed()).await {
            continue;
        }
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": target.resource.3,
            "apiVersion": api_version(target.resource), "metadata": {"resourceVersion": from.to_string()}}});
        if bookmarks && !shared.lock().held && send(&mut sender, &bookmark).await.is_err() {
            return;
        }
    }
}

async fn send(sender: &mut channel::Sender<Bytes, io::Error>, line: &Value) -> Result<(), channel::SendError> {
    sender.send_data(Bytes::from(format!("{line}\n"))).await
}

async fn patch(
    shared: &Shared,
    target: &Target,
    name: String,
    query: &HashMap<String, String>,
    request: Request<Incoming>,
) -> Response<Body> {
    let content_type = request
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let Ok(body) = request.into_body().collect().await else {
        return failure(400, "BadRequest", "the body ended early");
    };
    let Ok(body) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return failure(400, "BadRequest", "the body is no JSON");
    };
    let patched = Patched {
        plural: target.resource.2.to_owned(),
        name,
        manager: query.get("fieldManager").cloned().unwrap_or_default(),
        content_type,
        body,
        at: Instant::now(),
    };
    let namespace = target.namespace.clone().unwrap_or_default();
    match shared.change(|cluster| cluster.patch_status(&namespace, patched)) {
        Some(object) => reply(StatusCode::OK, &object),
        None => failure(404, "NotFound", "not found"),
    }
}

/// A whole object, or, with the name of one, a strategic merge patch of it.
async fn write(
    shared: &Shared,
    target: &Target,
    patched: Option<String>,
    request: Request<Incoming>,
) -> Response<Body> {
    let is_new = request.method() == Method::POST;
    let Ok(body) = request.into_body().collect().await else {
        return failure(400, "BadRequest", "the body ended early");
    };
    let Ok(mut body) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return failure(400, "BadRequest", "the body is no JSON");
    };
    let (plural, namespace) = (target.resource.2, target.namespace.clone().unwrap_or_default());
    let written = shared.change(|cluster| match &patched {
        Some(name) => cluster.patch(plural, (&namespace, name), &body),
        None => {
            body["kind"] = target.resource.3.into();
            if !namespace.is_empty() {
                body["metadata"]["namespace"] = namespace.as_str().into();
            }
            cluster.write(plural, body, is_new)
        }
    });
    match written {
        Some(object) => reply(StatusCode::OK, &object),
        None => failure(409, "Conflict", "the object has been modified"),
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code});
    reply(StatusCode::from_u16(code).unwrap_or_default(), &status)
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    response.body(body).expect("a valid head")
}
