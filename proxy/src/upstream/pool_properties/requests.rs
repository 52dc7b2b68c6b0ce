//! The requests of the property tests: each chooses an endpoint and takes a connection as the request path does, and ends as
//! it is told.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use http::Request;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tsunagi_proto::model;

use crate::codec::{BodyLength, RequestHead, Transfer, Whole};
use crate::tls::Offer;
use crate::upstream::testing::WAITS;
use crate::upstream::{AcquireError, Caller, Cluster, Lease, Members, Need, acquire, acquire_ready, choose};

/// What a request does with its connection.
#[derive(Debug, Clone, Copy)]
pub enum End {
    GiveBack,
    Drop,
    Exchange,
    Upgrade,
}

/// One request, as the request path sends it.
pub struct Sent {
    pub cluster: Arc<Cluster>,
    pub policy: Arc<model::Cluster>,
    pub members: Arc<Members>,
    pub need: Need,
    pub worker: usize,
    pub random: u64,
}

impl Sent {
    pub async fn run(self, told: oneshot::Receiver<End>, unconnected: Arc<AtomicBool>) {
        let Self {
            cluster,
            policy,
            members,
            need,
            worker,
            mut random,
        } = self;
        let mut draw = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random
        };
        let caller = Caller {
            worker,
            ..Caller::default()
        };
        let Some(_active) = choose(&policy, &members, &caller, &mut draw) else {
            return;
        };
        let endpoint = Arc::clone(&_active.endpoint);
        let lease = match acquire_ready(&endpoint, &policy, &need, worker) {
            Some(lease) => lease,
            None => match acquire(&cluster, &endpoint, &policy, &members, &need, worker, &WAITS).await {
                Ok(lease) => lease,
                Err(error) => {
                    unconnected.store(matches!(error, AcquireError::Connect { .. }), SeqCst);
                    return;
                }
            },
        };
        assert_eq!(lease.is_http2(), need.offer == Offer::Http2);
        assert_eq!(
            lease.binding(),
            &need.binding,
            "it is on a connection of other requests"
        );
        let Some(_permit) = cluster.requests.acquire() else {
            return lease.give_back(true);
        };
        match told.await {
            Ok(End::GiveBack) => lease.give_back(true),
            Ok(End::Exchange) => exchange(lease, false).await,
            Ok(End::Upgrade) => exchange(lease, need.offer != Offer::Http2).await,
            Ok(End::Drop) | Err(_) => drop(lease),
        }
    }
}

async fn exchange(mut lease: Lease, upgrade: bool) {
    let request = Request::get("http://user/").body(()).unwrap();
    let mut head = RequestHead::from_http2(request.into_parts().0);
    head.upgrade = upgrade.then(|| "raw".into());
    if lease.send_head(&head, BodyLength::None).is_err() {
        return;
    }
    let (mut body, mut transfer) = (Whole(Bytes::new()), Transfer::default());
    if poll_fn(|cx| transfer.poll_flushed(&mut body, &mut lease, cx))
        .await
        .is_err()
        || poll_fn(|cx| lease.poll_response_head(cx)).await.is_err()
    {
        return;
    }
    if upgrade {
        let upgraded = lease.into_upgraded();
        for _ in 0..500 {
            yield_now().await;
        }
        drop(upgraded);
    } else {
        lease.give_back(true);
    }
}
