//! Tests of sessions that are resumed at another time than they were begun: who is verified again, and what becomes of the
//! session of an endpoint that is refused.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::Offer;
use super::testing::{Authority, Folder, client, echo, exchange_with, only_tls12, server};

const NAMES: &[&str] = &["users.example"];

/// 2040 begins, when everything here ends.
const END: Duration = Duration::from_secs(2_208_988_800);
/// Sessions outlive it.
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn who_resumes_a_session_is_verified_again_and_forgotten_when_refused() {
    let authority = Authority::new("ours");
    let short = authority.issue(NAMES, 7, (2040, 1, 1));
    let cases = [
        (&short, "", "the endpoint's certificate has expired"),
        (
            &authority.good(NAMES),
            "crl.pem",
            "list of revoked certificates of its authority has expired",
        ),
    ];
    for (issued, list, reason) in cases {
        for old in [false, true] {
            let folder = Folder::new();
            folder.write("ca.pem", &authority.pem());
            folder.write("crl.pem", &authority.revoke_until(&[], 2040));
            let endpoint = echo(if old {
                only_tls12(issued)
            } else {
                server(issued, None, &[])
            })
            .await;
            let (client, _generation) = client(&folder.store(), &folder.told("", "", "ca.pem", list));
            let compiled = client.current().unwrap();
            let at = |time| compiled.at(SystemTime::UNIX_EPOCH + time);
            let (now, later) = (at(END - HOUR), at(END + HOUR));
            let outcome = async |compiled| exchange_with(compiled, endpoint.address, Offer::Bytes).await;
            let full = || endpoint.full_handshakes.load(Ordering::SeqCst);
            for _ in 0..3 {
                assert_eq!(outcome(&now).await, Ok(None));
            }
            assert_eq!(full(), 1, "the others resume the first one's session");
            let refused = outcome(&later).await.unwrap_err();
            assert!(refused.contains(reason), "{refused}");
            assert_eq!(outcome(&later).await.unwrap_err(), refused, "as in a full handshake");
            assert_eq!(outcome(&now).await, Ok(None));
            assert_eq!(full(), 2, "nothing is left of the session: TLS 1.2 {old}");
        }
    }
}
