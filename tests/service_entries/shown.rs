//! What people are shown of endpoints that are names: `tsunagi endpoints` and `tsunagi explain`.

use tsunagi_tests::{Behaviour, LIMIT, eventually};

use super::{NAME, PATIENCE, World};

/// The rows of `tsunagi endpoints` without what stands there of the place.
async fn shown(world: &World) -> Vec<String> {
    let output = world.control.cli(&["endpoints", NAME]).await;
    let squeezed = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    output.stdout.lines().skip(1).map(squeezed).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_shows_what_a_name_is_resolved_to_and_which_address_is_ejected() {
    let world = World::start(&["v1", "v2"]).await;
    world.serve("DNS").await;
    let detection = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: external}
spec: {host: api.example.test, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s}}}
";
    world.control.apply(detection).await;
    let unknown = shown(&world).await.join("\n");
    assert!(
        unknown.contains(" unknown ") && !unknown.contains("healthy"),
        "{unknown}"
    );
    let explained = async || world.control.cli(&["explain", &format!("http://{NAME}/")]).await.stdout;
    assert!(explained().await.contains("1 resolved by the sidecars"));

    assert_eq!(world.sidecar.get(NAME, "/").await.flags(), "UH,DF");
    let said = async |what: &str| {
        eventually(what, LIMIT, async || {
            let shown = shown(&world).await.join("\n");
            shown.contains(what).then_some(shown)
        })
        .await
    };
    let unresolved = said(" unresolved ").await;
    assert!(unresolved.contains("DNS answers Non-Existent Domain"), "{unresolved}");
    let note = format!("{NAME} is not resolved by default/");
    assert!(explained().await.contains(&note));

    world.names.say(NAME, &world.addresses(&[0, 1]), 60);
    let second = format!("{NAME}:{} (127.0.0.12)", world.port());
    eventually("the name is asked for again", PATIENCE, async || {
        shown(&world).await.join("\n").contains(&second).then_some(())
    })
    .await;
    assert!(explained().await.contains("1 of 1 healthy"));
    world.upstreams[1].set(Behaviour::Status(500));
    let while_healthy = async || {
        let _ = world.sidecar.get(NAME, "/").await;
        let rows = shown(&world).await;
        rows.iter().any(|row| row.contains(" ejected ")).then_some(rows)
    };
    let rows = eventually("the second is ejected", LIMIT, while_healthy).await;
    let [first, last] = &rows[..] else {
        panic!("one row for each address: {rows:?}")
    };
    assert!(
        first.contains("(127.0.0.11)") && first.contains(" 1 healthy "),
        "{first}"
    );
    assert!(
        last.starts_with(&second) && last.contains(" consecutive_5xx "),
        "{last}"
    );
}
