//! One watch for each kind: list, then follow; after a disconnect go on where it ended, after `410 Gone` list anew
//! (kube-runtime's `watcher` does that). What it sees goes to `follow` in order; nothing is decided here but how often
//! to try again. A kind that the cluster does not know is no failure: it is said once and looked for again.

use std::{pin::pin, time::Duration};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node as CoreNode;
use kube::{
    Api, Client, Error as ClientError,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use tokio::sync::mpsc;

use super::object::{Name, Node, Object, Pod, PodObject, Slice, SliceObject};
use crate::{config::Kind, error};

/// After the first failure; it doubles up to the longest, and a success starts it anew.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two looks for a kind that is not installed.
const LONGEST_LOOK: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Pods,
    Slices,
    Nodes,
    Objects(Kind),
}

impl Source {
    pub(super) fn all() -> impl Iterator<Item = Source> {
        [Source::Pods, Source::Slices, Source::Nodes]
            .into_iter()
            .chain(Kind::ALL.into_iter().map(Source::Objects))
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Source::Pods => "pods",
            Source::Slices => Kind::EndpointSlice.plural(),
            Source::Nodes => Kind::Node.plural(),
            Source::Objects(kind) => kind.plural(),
        }
    }

    /// Must it be heard of before anybody is told anything? Without Nodes it is only not known where things are.
    pub(super) fn is_vital(self) -> bool {
        self != Source::Nodes
    }
}

/// What a watch has seen.
#[derive(Debug)]
pub(super) enum News {
    Pods(Change<(Name, Pod)>),
    Slices(Change<(Name, Slice)>),
    Nodes(Change<(Name, Node)>),
    Objects(Kind, Box<Change<Object>>),
    /// The cluster does not know the kind; what was known of it stays.
    Absent(Source),
    Failing(Source, String),
}

#[derive(Debug)]
pub(super) enum Change<T> {
    /// All that there is.
    Listed(Vec<T>),
    Set(T),
    Gone(T),
}

impl<T> Change<T> {
    fn map<U>(self, map: impl Fn(T) -> U) -> Change<U> {
        match self {
            Self::Listed(all) => Change::Listed(all.into_iter().map(map).collect()),
            Self::Set(one) => Change::Set(map(one)),
            Self::Gone(one) => Change::Gone(map(one)),
        }
    }
}

/// Until nobody listens any more. Dropping it ends the watch.
pub(super) async fn watch(client: Client, source: Source, news: mpsc::Sender<News>) {
    match source {
        Source::Pods => {
            let api: Api<PodObject> = Api::all(client);
            let events = watcher(api, watcher::Config::default());
            follow(events, source, news, PodObject::into_parts, News::Pods).await;
        }
        Source::Slices => {
            let api: Api<SliceObject> = Api::all(client);
            let events = watcher(api, watcher::Config::default());
            follow(events, source, news, SliceObject::into_parts, News::Slices).await;
        }
        // Of a Node nothing but its labels is asked for: its status is long and changes often.
        Source::Nodes => {
            let api: Api<PartialObjectMeta<CoreNode>> = Api::all(client);
            let events = watcher(api, watcher::Config::default());
            follow(events, source, news, Node::of, News::Nodes).await;
        }
        Source::Objects(kind) => {
            let api: Api<Object> = Api::all_with(client, &kind);
            follow(
                watcher(api, watcher::Config::default()),
                source,
                news,
                |object| object,
                |change| News::Objects(kind, Box::new(change)),
            )
            .await;
        }
    }
}

async fn follow<K, T>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    source: Source,
    news: mpsc::Sender<News>,
    keep: fn(K) -> T,
    wrap: impl Fn(Change<T>) -> News,
) {
    let mut events = pin!(events);
    let mut pauses = Pauses::default();
    let mut listed = Vec::new();
    // A stream of kube-runtime's watcher never ends.
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Init) => {
                listed = Vec::new();
                continue;
            }
            // What is kept is small, so a page of whole objects does not outlive its turn.
            Ok(Event::InitApply(object)) => {
                listed.push(keep(object));
                continue;
            }
            Ok(Event::InitDone) => Change::Listed(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => Change::Set(object).map(keep),
            Ok(Event::Delete(object)) => Change::Gone(object).map(keep),
            Err(error) => {
                let trouble = Trouble::of(&error);
                let pause = pauses.next(&trouble);
                if news.send(trouble.into_news(source)).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        pauses = Pauses::default();
        if news.send(wrap(change)).await.is_err() {
            return;
        }
    }
}

#[derive(Debug, PartialEq)]
enum Trouble {
    Absent,
    Failing(String),
}

impl Trouble {
    fn of(error: &watcher::Error) -> Self {
        let client = match error {
            watcher::Error::InitialListFailed(client)
            | watcher::Error::WatchStartFailed(client)
            | watcher::Error::WatchFailed(client) => Some(client),
            watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
        };
        match client {
            Some(ClientError::Api(status)) if status.code == 404 => Self::Absent,
            Some(ClientError::Api(status)) => Self::Failing(format!("{} ({})", status.message, status.code)),
            _ => Self::Failing(error::sentence(error)),
        }
    }

    fn into_news(self, source: Source) -> News {
        match self {
            Self::Absent => News::Absent(source),
            Self::Failing(reason) => News::Failing(source, reason),
        }
    }
}

/// How long to wait after each failure in a row.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
}

impl Pauses {
    fn next(&mut self, trouble: &Trouble) -> Duration {
        let (first, longest) = match trouble {
            Trouble::Absent => (SHORTEST_PAUSE * 5, LONGEST_LOOK),
            Trouble::Failing(_) => (SHORTEST_PAUSE, LONGEST_PAUSE),
        };
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        // Not all watches of all replicas at one moment.
        pause.mul_f64(rand::random_range(0.8..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_double_up_to_the_longest() {
        let mut pauses = Pauses::default();
        let failing = Trouble::Failing(String::new());
        let all: Vec<Duration> = (0..10).map(|_| pauses.next(&failing)).collect();
        assert!(all[0] <= SHORTEST_PAUSE && all[0] >= SHORTEST_PAUSE.mul_f64(0.79));
        assert!(all[3] > all[0] * 4);
        assert!(all[9] <= LONGEST_PAUSE && all[9] >= LONGEST_PAUSE.mul_f64(0.79));
        let mut looks = Pauses { failures: 30 };
        assert!(looks.next(&Trouble::Absent) > LONGEST_PAUSE);
    }

    #[test]
    fn a_kind_that_is_not_there_is_no_failure() {
        let status = |code: u16| {
            let status = kube::core::Status::failure("says no", "Reason").with_code(code);
            watcher::Error::InitialListFailed(ClientError::Api(status.boxed()))
        };
        assert_eq!(Trouble::of(&status(404)), Trouble::Absent);
        assert_eq!(Trouble::of(&status(403)), Trouble::Failing("says no (403)".to_owned()));
    }

    #[test]
    fn every_kind_that_people_write_is_watched() {
        let all: Vec<Source> = Source::all().collect();
        assert_eq!(all.len(), Kind::ALL.len() + 3);
        assert!(all.contains(&Source::Objects(Kind::VirtualService)));
    }
}
