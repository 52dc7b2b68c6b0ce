//! Writes configuration over the HTTP API, on one connection that is kept. Called by every benchmark that changes things.

use http::HeaderValue;
use tsunagi_tests::{Connection, ControlPlane, Version, body, request};

pub struct Writer {
    connection: Connection,
    authority: String,
}

impl Writer {
    pub async fn open(control: &ControlPlane) -> Writer {
        let connection = Connection::open(control.http, Version::Http1).await;
        Writer {
            connection,
            authority: control.http.to_string(),
        }
    }

    /// One transaction; the revision that it made. With `wait`, once every proxy that uses it has it in force.
    pub async fn apply(&mut self, yaml: String, wait: bool) -> u64 {
        let path = if wait {
            "/v1/transactions?wait=10s"
        } else {
            "/v1/transactions"
        };
        self.post(path, yaml).await
    }

    pub async fn delete(&mut self, yaml: String) -> u64 {
        self.post("/v1/transactions?operation=delete", yaml).await
    }

    async fn post(&mut self, path: &str, yaml: String) -> u64 {
        let mut write = request("POST", &self.authority, path);
        *write.body_mut() = body(yaml);
        write
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/yaml"));
        write
            .headers_mut()
            .insert("accept", HeaderValue::from_static("application/json"));
        let reply = self.connection.send(write).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let reply: serde_json::Value = serde_json::from_slice(&reply.body).expect("the API answers in JSON");
        reply["revision"].as_u64().expect("a reply has a revision")
    }
}
