//! The admin pages: what the proxy knows, and the few things an operator may tell it.
//!
//! Reading is GET, changing is POST. A POST from a web page (it has an `Origin`) is refused: the admin port of a proxy
//! on a developer's machine must not be within reach of whatever site is open there.

use http::header::ORIGIN;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::AdminSources;
use super::answer::{Answer, Methods, json as json_answer, text, wrong_method};
use crate::bootstrap;
use crate::drain::{Callers, Drain};
use crate::telemetry::log::LogLevels;
use crate::telemetry::resident_bytes;

/// What the pages show and change.
pub(super) struct Operator {
    pub(super) sources: AdminSources,
    pub(super) log_levels: LogLevels,
    pub(super) drain: Drain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Help,
    ConfigDump,
    Clusters,
    Listeners,
    Logging,
    Memory,
    Drain,
    DrainStatus,
    Quit,
}

const PAGES: [(&str, Methods, Page, &str); 9] = [
    ("/", Methods::Get, Page::Help, "this page"),
    (
        "/config_dump",
        Methods::Get,
        Page::ConfigDump,
        "the configuration in force (JSON)",
    ),
    (
        "/clusters",
        Methods::Get,
        Page::Clusters,
        "clusters and their endpoints: health and load",
    ),
    (
        "/listeners",
        Methods::Get,
        Page::Listeners,
        "listeners and their addresses (JSON)",
    ),
    (
        "/logging",
        Methods::GetAndPost,
        Page::Logging,
        "log levels; POST /logging?level=debug changes them",
    ),
    ("/memory", Methods::Get, Page::Memory, "resident memory (JSON)"),
    (
        "/drain",
        Methods::Post,
        Page::Drain,
        "leave: fail readiness, tell callers, let requests in flight finish, keep running",
    ),
    (
        "/drain_status",
        Methods::Get,
        Page::DrainStatus,
        "how far leaving has come: serving, leaving, draining or drained (JSON)",
    ),
    ("/quitquitquit", Methods::Post, Page::Quit, "the same, then exit"),
];

impl Operator {
    pub(super) fn answer(&self, request: &Parts) -> Answer {
        let path = request.uri.path();
        let Some((_, methods, page, _)) = PAGES.iter().find(|(known, ..)| *known == path) else {
            return text(StatusCode::NOT_FOUND, format!("no such page\n\n{}", help()));
        };
        if !methods.allow(&request.method) {
            return wrong_method(*methods);
        }
        if request.method == Method::POST && request.headers.contains_key(ORIGIN) {
            return text(StatusCode::FORBIDDEN, "not from a web page");
        }
        match page {
            Page::Help => text(StatusCode::OK, help()),
            Page::ConfigDump => json_answer(&(self.sources.config_dump)()),
            Page::Clusters => text(StatusCode::OK, (self.sources.clusters)()),
            Page::Listeners => json_answer(&(self.sources.listeners)()),
            Page::Logging => self.logging(request),
            Page::Memory => json_answer(&json!({ "resident_bytes": resident_bytes() })),
            Page::Drain => {
                tracing::info!("leaving: asked for by POST /drain");
                self.drain.leave();
                text(StatusCode::OK, "draining")
            }
            Page::DrainStatus => json_answer(&self.drain_status()),
            Page::Quit => {
                tracing::info!("leaving and exiting: asked for by POST /quitquitquit");
                self.drain.quit();
                text(StatusCode::OK, "draining, then exiting")
            }
        }
    }

    fn drain_status(&self) -> Value {
        let (told, unanswered, reason) = match self.drain.callers_now() {
            Some(Callers::Told { unanswered }) => (true, unanswered, None),
            Some(Callers::NotTold { reason }) => (false, Vec::new(), Some(reason)),
            None => (false, Vec::new(), None),
        };
        json!({
            "phase": self.drain.stage(),
            "callers_told": told,
            "callers_unanswered": unanswered,
            "callers_not_told_because": reason,
            "inbound_connections": self.drain.inbound().busy_connections(),
            "outbound_connections": self.drain.outbound().live_connections(),
        })
    }

    fn logging(&self, request: &Parts) -> Answer {
        let level = request.uri.query().and_then(level_in);
        match (request.method == Method::POST, level) {
            (false, None) => text(StatusCode::OK, self.log_levels.current()),
            (false, Some(_)) => wrong_method(Methods::Post),
            (true, None) => text(StatusCode::BAD_REQUEST, "say which: POST /logging?level=debug"),
            (true, Some(level)) => match bootstrap::log_level(&level) {
                Ok(levels) => {
                    self.log_levels.set(levels);
                    text(StatusCode::OK, self.log_levels.current())
                }
                Err(reason) => text(StatusCode::BAD_REQUEST, format!("level {reason}")),
            },
        }
    }
}

fn help() -> String {
    PAGES
        .iter()
        .map(|(path, methods, _, help)| format!("{:<5}{path:<15}{help}\n", verb(*methods)))
        .collect()
}

fn verb(methods: Methods) -> &'static str {
    if methods == Methods::Post { "POST" } else { "GET" }
}

/// `level=` of a query. Of the characters a level may hold only `,` and `=` may have come escaped.
fn level_in(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("level="))?;
    let unescaped = [
        ("%2C", ","),
        ("%2c", ","),
        ("%3D", "="),
        ("%3d", "="),
        ("%3A", ":"),
        ("%3a", ":"),
    ];
    Some(
        unescaped
            .iter()
            .fold(value.to_owned(), |text, (from, to)| text.replace(from, to)),
    )
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;

    use super::*;
    use crate::telemetry::log;

    fn operator() -> Operator {
        let sources = AdminSources {
            config_dump: Box::new(|| json!({ "version": "7" })),
            clusters: Box::new(|| "outbound|80||users\n".to_owned()),
            listeners: Box::new(|| json!([{ "name": "outbound" }])),
        };
        Operator {
            sources,
            log_levels: log::start("info".parse().expect("a level")),
            drain: Drain::new(),
        }
    }

    async fn ask(operator: &Operator, method: &str, uri: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
        let answer = operator.answer(&request.into_parts().0);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn the_pages_show_their_sources() {
        let operator = operator();
        assert_eq!(
            ask(&operator, "GET", "/config_dump").await,
            (200, "{\n  \"version\": \"7\"\n}\n".to_owned())
        );
        assert_eq!(
            ask(&operator, "GET", "/clusters").await,
            (200, "outbound|80||users\n".to_owned())
        );
        assert!(ask(&operator, "GET", "/listeners").await.1.contains("outbound"));
        assert!(ask(&operator, "GET", "/memory").await.1.contains("resident_bytes"));
    }

    #[tokio::test]
    async fn the_help_page_lists_every_page_and_a_wrong_path_shows_it() {
        let operator = operator();
        let (status, help) = ask(&operator, "GET", "/").await;
        assert_eq!(status, 200);
        for (path, ..) in PAGES {
            assert!(help.contains(path), "{path}");
        }
        let (status, text) = ask(&operator, "GET", "/nope").await;
        assert!(status == 404 && text.contains("/config_dump"));
    }

    #[tokio::test]
    async fn what_changes_something_needs_post_and_what_reads_does_not_take_it() {
        let operator = operator();
        for (method, path) in [
            ("GET", "/drain"),
            ("GET", "/quitquitquit"),
            ("POST", "/clusters"),
            ("PUT", "/logging"),
        ] {
            assert_eq!(ask(&operator, method, path).await.0, 405, "{method} {path}");
        }
        assert!(!operator.drain.is_leaving());
        assert_eq!(ask(&operator, "HEAD", "/clusters").await.0, 200);
    }

    #[tokio::test]
    async fn drain_drains_and_quit_also_quits() {
        let operator = operator();
        assert_eq!(ask(&operator, "POST", "/drain").await.0, 200);
        assert!(operator.drain.is_leaving());
        assert_eq!(ask(&operator, "POST", "/quitquitquit").await.0, 200);
        operator.drain.quitting().await;
    }

    #[tokio::test]
    async fn the_status_of_a_drain_says_its_phase_and_who_knows() {
        let operator = operator();
        let status = async || {
            let (code, body) = ask(&operator, "GET", "/drain_status").await;
            assert_eq!(code, 200);
            serde_json::from_str::<Value>(&body).expect("JSON")
        };
        assert_eq!(status().await["phase"], "serving");
        operator.drain.leave();
        assert_eq!(status().await["phase"], "leaving");
        let connection = operator.drain.inbound().watch().connection();
        operator.drain.tell(Callers::Told {
            unanswered: vec!["shop/web-1".to_owned()],
        });
        operator.drain.start_draining();
        let draining = status().await;
        assert_eq!(
            (&draining["phase"], &draining["inbound_connections"]),
            (&json!("draining"), &json!(1))
        );
        assert_eq!(draining["callers_told"], true);
        assert_eq!(draining["callers_unanswered"][0], "shop/web-1");
        drop(connection);
        assert_eq!(status().await["phase"], "drained");
    }

    #[tokio::test]
    async fn a_web_page_cannot_post() {
        let operator = operator();
        let request = Request::post("/quitquitquit")
            .header(ORIGIN, "http://evil.example")
            .body(())
            .expect("a request");
        assert_eq!(operator.answer(&request.into_parts().0).status(), StatusCode::FORBIDDEN);
        assert!(!operator.drain.is_leaving());
    }

    #[tokio::test]
    async fn log_levels_are_shown_and_set() {
        let operator = operator();
        assert_eq!(ask(&operator, "GET", "/logging").await, (200, "info\n".to_owned()));
        assert_eq!(ask(&operator, "GET", "/logging?level=debug").await.0, 405);
        assert_eq!(ask(&operator, "POST", "/logging").await.0, 400);
        let (status, text) = ask(&operator, "POST", "/logging?level=loud").await;
        assert!(status == 400 && text.contains("debug"), "{text}");
        assert_eq!(ask(&operator, "GET", "/logging").await.1, "info\n");
        assert_eq!(
            ask(&operator, "POST", "/logging?level=warn").await,
            (200, "warn\n".to_owned())
        );
        assert_eq!(ask(&operator, "GET", "/logging").await.1, "warn\n");
    }

    #[test]
    fn a_level_may_come_escaped() {
        assert_eq!(
            level_in("x=1&level=info%2Ctsunagi_proxy%3A%3Axds%3Ddebug").as_deref(),
            Some("info,tsunagi_proxy::xds=debug")
        );
        assert_eq!(level_in("x=1"), None);
    }
}
