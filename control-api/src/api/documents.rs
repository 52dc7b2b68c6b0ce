//! From a request's body to documents: YAML, JSON, or several files with their names (what `tsunagi apply` sends, so that
//! every problem names the user's own file and line). Called by the handlers and by gRPC.

use axum::{
    extract::Request,
    http::{HeaderMap, header},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{failure::Failure, request};
use crate::{
    config::{self, Document, Problem},
    telemetry,
};

/// A JSON object `{"files": [{"name", "text"}]}`; every text is YAML or JSON.
pub const FILES_MEDIA_TYPE: &str = "application/vnd.tsunagi.files+json";

/// The name of a body that has none.
const REQUEST: &str = "request";

#[derive(Debug, Deserialize, Serialize)]
pub struct Files {
    pub files: Vec<NamedText>,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct NamedText {
    pub name: String,
    pub text: String,
}

enum MediaType {
    Yaml,
    Json,
    Files,
}

/// Reads the body and parses all of it. Dropping the future reads no further.
pub(super) async fn read(request: Request, namespace: &str) -> Result<Vec<Document>, Failure> {
    let media_type = media_type(request.headers())?;
    let text = request::body(request).await?;
    let documents = parse(media_type, text, namespace).await;
    documents.inspect_err(|_| telemetry::record_unparsable_transaction())
}

fn media_type(headers: &HeaderMap) -> Result<MediaType, Failure> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::unsupported_media_type("compressed"));
    }
    match request::media_type(headers).as_str() {
        FILES_MEDIA_TYPE => Ok(MediaType::Files),
        "" | "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(MediaType::Yaml),
        "application/json" => Ok(MediaType::Json),
        other => Err(Failure::unsupported_media_type(other)),
    }
}

/// Texts from here on are read one after the other: what is read takes some thirty times the room meanwhile.
const LARGE_BYTES: usize = 1 << 20;

static LARGE: Semaphore = Semaphore::const_new(1);

/// Waits where the text is a large one and another is being read. Kept until it is read.
pub(super) async fn room_for(text: &str) -> Option<SemaphorePermit<'static>> {
    if text.len() < LARGE_BYTES {
        return None;
    }
    LARGE.acquire().await.ok()
}

/// On a blocking thread: megabytes of YAML take a while, and proxies are served meanwhile.
async fn parse(media_type: MediaType, text: String, namespace: &str) -> Result<Vec<Document>, Failure> {
    let namespace = namespace.to_owned();
    let room = room_for(&text).await;
    let read = move || match media_type {
        MediaType::Yaml => parse_text(&text, &namespace),
        MediaType::Json => {
            let read: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&text);
            read.map_err(|error| Failure::bad_request(format!("the body is not JSON: {error}")))?;
            parse_text(&text, &namespace)
        }
        MediaType::Files => {
            let files: Files = serde_json::from_str(&text)
                .map_err(|error| Failure::bad_request(format!("the body is no list of files: {error}")))?;
            parse_files(&files.files, &namespace).map_err(Failure::problems)
        }
    };
    let work = tokio::task::spawn_blocking(move || {
        // Whoever asked may have left: the reading goes on.
        let _room = room;
        read()
    });
    work.await
        .unwrap_or_else(|_| Err(Failure::internal("the documents could not be read; the log says why")))
}

fn parse_text(text: &str, namespace: &str) -> Result<Vec<Document>, Failure> {
    parse_all(text, namespace).map_err(Failure::problems)
}

/// All documents of one text without a name.
pub(super) fn parse_all(text: &str, namespace: &str) -> Result<Vec<Document>, Vec<Problem>> {
    nonempty(REQUEST, parse_one(REQUEST, text, namespace)?)
}

/// All documents of all files, or every problem of every file.
fn parse_files(files: &[NamedText], namespace: &str) -> Result<Vec<Document>, Vec<Problem>> {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        match parse_one(&file.name, &file.text, namespace) {
            Ok(parsed) => documents.extend(parsed),
            Err(found) => problems.extend(found),
        }
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    if problems.is_empty() {
        nonempty(&names.join(", "), documents)
    } else {
        Err(problems)
    }
}

/// Problems come in the order of the text, whichever check found them.
fn parse_one(name: &str, text: &str, namespace: &str) -> Result<Vec<Document>, Vec<Problem>> {
    config::parse(name, text, namespace).map_err(|mut problems| {
        problems.sort_by_key(|problem| problem.line);
        problems
    })
}

/// Nothing where something was meant is an accident, such as an empty variable in a script.
fn nonempty(file: &str, documents: Vec<Document>) -> Result<Vec<Document>, Vec<Problem>> {
    if !documents.is_empty() {
        return Ok(documents);
    }
    let reason = "no document in it".to_owned();
    Err(vec![Problem {
        file: file.to_owned(),
        reason,
        ..Problem::default()
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_large_texts_one_is_read_at_a_time_and_small_ones_do_not_wait() {
        let read = |text: String| Box::pin(parse(MediaType::Yaml, text, "default"));
        let small = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}";
        let held = LARGE.acquire().await.expect("never closed");
        assert_eq!(read(small.to_owned()).await.expect("valid").len(), 1);
        let mut large = read(format!("{small}\n#{}", "x".repeat(LARGE_BYTES)));
        tokio::select! {
            biased;
            _ = &mut large => panic!("it was read beside another"),
            () = tokio::task::yield_now() => {}
        }
        drop(held);
        assert_eq!(large.await.expect("valid").len(), 1);
    }
}
