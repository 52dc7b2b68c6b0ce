//! The loop that asks for names when they are due, on the control thread. Called by `app`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};

use super::book::Book;
use super::names::Outcome;
use crate::telemetry::{LookupResult, Telemetry};

/// Lookups on their way; the others that are due wait for them.
const MOST_AT_ONCE: usize = 32;
/// Of one name with everything that its search list makes of it.
const LONGEST_LOOKUP: Duration = Duration::from_secs(10);

/// Asks for ever. `changed` is told the names of which something else is known now; dropping the future ends lookups.
pub async fn run<Asked>(
    book: Arc<Book>,
    telemetry: Telemetry,
    ask: impl Fn(Arc<str>) -> Asked,
    mut changed: impl FnMut(&[Arc<str>]),
) where
    Asked: Future<Output = Outcome> + Send + 'static,
{
    let mut lookups = Lookups::default();
    loop {
        while lookups.set.len() < MOST_AT_ONCE {
            let Some(name) = book.names().take_due(now()) else {
                break;
            };
            lookups.start(name.clone(), ask(name));
        }
        let has_room = lookups.set.len() < MOST_AT_ONCE;
        let next_due = book.names().next_due().filter(|_| has_room);
        let due = async {
            match next_due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = lookups.set.join_next_with_id() => {
                let first = lookups.end(ended);
                let more = std::iter::from_fn(|| lookups.set.try_join_next_with_id());
                let ended: Vec<_> = std::iter::once(first).chain(more.collect::<Vec<_>>().into_iter().map(|ended| lookups.end(ended))).collect();
                let names = take(&book, &telemetry, ended.into_iter().flatten());
                if !names.is_empty() {
                    changed(&names);
                }
            }
            () = book.wanted.notified() => {}
            () = due => {}
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Of which something else is known now.
fn take(book: &Book, telemetry: &Telemetry, ended: impl Iterator<Item = (Arc<str>, Outcome)>) -> Vec<Arc<str>> {
    let mut changed = Vec::new();
    for (name, outcome) in ended {
        telemetry.count_lookup(match &outcome {
            Outcome::Addresses { .. } => LookupResult::Resolved,
            Outcome::Absent { .. } => LookupResult::Absent,
            Outcome::Failed(_) => LookupResult::Failed,
        });
        tracing::debug!(%name, ?outcome, "looked up");
        let is_first = book.answer(&name).said_at.is_none();
        let is_news = book.names().take(&name, outcome, now(), rand::random());
        if is_news {
            let answer = book.answer(&name);
            match &answer.failure {
                None if is_first => tracing::info!(%name, addresses = ?answer.addresses, "a name has addresses"),
                None => tracing::info!(%name, addresses = ?answer.addresses, "a name has other addresses"),
                Some(reason) => tracing::warn!(%name, %reason, "a name has no address"),
            }
            changed.push(name);
        }
    }
    changed
}

/// Those on their way.
#[derive(Default)]
struct Lookups {
    set: JoinSet<Outcome>,
    names: HashMap<Id, Arc<str>>,
}

impl Lookups {
    fn start(&mut self, name: Arc<str>, asked: impl Future<Output = Outcome> + Send + 'static) {
        let lookup = async move {
            let late = |_| Outcome::Failed(format!("no answer within {LONGEST_LOOKUP:?}"));
            timeout(LONGEST_LOOKUP, asked).await.unwrap_or_else(late)
        };
        let id = self.set.spawn(lookup).id();
        self.names.insert(id, name);
    }

    fn end(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Option<(Arc<str>, Outcome)> {
        let (id, outcome) = ended.unwrap_or_else(|error| (error.id(), Outcome::Failed(error.to_string())));
        Some((self.names.remove(&id)?, outcome))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    static OPEN: AtomicU32 = AtomicU32::new(0);
    static MOST: AtomicU32 = AtomicU32::new(0);

    /// A lookup on its way.
    struct Open;

    impl Open {
        fn one_more() -> Self {
            let open = OPEN.fetch_add(1, Ordering::SeqCst) + 1;
            MOST.fetch_max(open, Ordering::SeqCst);
            Open
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            OPEN.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_name_is_asked_for_as_soon_as_it_is_wanted_and_whoever_wants_it_is_told() {
        let (book, telemetry) = (Book::new(), Telemetry::new("test"));
        let (told, mut tellings) = mpsc::unbounded_channel();
        let ask = |name: Arc<str>| async move {
            assert_ne!(&*name, "panics", "as a lookup that panics");
            Outcome::Addresses {
                addresses: vec![IpAddr::from([10, 0, 0, 1])],
                ttl: LIMIT,
            }
        };
        let asking = run(Arc::clone(&book), telemetry.clone(), ask, move |names| {
            names.iter().for_each(|name| drop(told.send(name.to_string())));
        });
        let asking = tokio::spawn(asking);
        for name in ["a", "panics", "b"] {
            book.want(name);
            assert!(book.answer(name).is_pending());
            assert_eq!(timeout(LIMIT, tellings.recv()).await.unwrap().unwrap(), name);
        }
        assert_eq!(book.answer("b").addresses.len(), 1);
        assert!(book.answer("panics").failure.is_some());
        let page = telemetry.render(false);
        assert!(
            page.contains("tsunagi_dns_lookups_total{result=\"resolved\"} 2"),
            "{page}"
        );
        assert!(
            page.contains("tsunagi_dns_lookups_total{result=\"failed\"} 1"),
            "{page}"
        );
        asking.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_lookups_are_on_their_way_and_none_takes_for_ever() {
        let book = Book::new();
        (0..100).for_each(|number| book.want(&number.to_string()));
        let ask = |_| async {
            let _open = Open::one_more();
            std::future::pending::<()>().await;
            Outcome::Failed(String::new())
        };
        let (told, mut tellings) = mpsc::unbounded_channel();
        let asking = run(Arc::clone(&book), Telemetry::new("test"), ask, move |names| {
            names.iter().for_each(|name| drop(told.send(name.to_string())));
        });
        let asking = tokio::spawn(asking);
        for _ in 0..100 {
            timeout(LONGEST_LOOKUP * 5, tellings.recv()).await.unwrap().unwrap();
        }
        assert_eq!(MOST.load(Ordering::SeqCst), MOST_AT_ONCE as u32);
        asking.abort();
    }
}
