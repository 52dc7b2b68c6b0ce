//! Tests of the same API over gRPC.

use super::*;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::{Code, service::Routes, transport::Channel};
use tsunagi_proto::wire::mesh::{
    ApplyRequest, DeleteRequest, GetRequest, ListProxiesRequest, ListRequest, config_client::ConfigClient,
};

struct Server {
    plane: Plane,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    client: ConfigClient<Channel>,
}

async fn start() -> Server {
    let plane = Plane::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = watch::channel(false);
    let routes = Routes::new(grpc_service(plane.api.clone()));
    let task = tokio::spawn(serve_grpc(listener, routes, stopped));
    let channel = Channel::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect()
        .await;
    let client = ConfigClient::new(channel.expect("connected"));
    Server {
        plane,
        stop,
        task,
        client,
    }
}

fn apply(documents: &str) -> ApplyRequest {
    ApplyRequest {
        documents: documents.to_owned(),
        ..ApplyRequest::default()
    }
}

fn get(name: &str) -> GetRequest {
    GetRequest {
        kind: "svc".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn it_applies_gets_lists_and_deletes() {
    let mut server = start().await;
    let client = &mut server.client;
    let request = ApplyRequest {
        wait_milliseconds: 1_000,
        ..apply(SERVICE)
    };
    let reply = client.apply(request).await.expect("applied").into_inner();
    assert_eq!((reply.revision, reply.changes[0].operation.as_str()), (1, "created"));
    let json = client.get(get("user-service")).await.expect("found").into_inner().json;
    assert!(json.contains("\"resourceVersion\":\"1\""), "{json}");
    let list = ListRequest {
        kind: "Service".to_owned(),
        namespace: String::new(),
    };
    assert_eq!(client.list(list).await.expect("listed").into_inner().json.len(), 1);
    let key = DeleteRequest {
        kind: "Service".to_owned(),
        namespace: "default".to_owned(),
        name: "user-service".to_owned(),
    };
    assert_eq!(
        client.delete(key.clone()).await.expect("deleted").into_inner().revision,
        2
    );
    assert_eq!(client.delete(key).await.expect_err("gone").code(), Code::NotFound);
    assert_eq!(
        client.get(get("user-service")).await.expect_err("gone").code(),
        Code::NotFound
    );
    let proxies = client.list_proxies(ListProxiesRequest {}).await.expect("listed");
    assert!(proxies.into_inner().proxies.is_empty());
}

#[tokio::test]
async fn it_refuses_with_the_lines_that_name_the_problems() {
    let mut server = start().await;
    let client = &mut server.client;
    let refused = client
        .apply(apply("kind: Service\napiVersion: v1\n"))
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().starts_with("request:1: Service/?: "),
        "{}",
        refused.message()
    );
    client.apply(apply(SERVICE)).await.expect("applied");
    let stale = SERVICE.replace("metadata:\n", "metadata:\n  resourceVersion: \"9\"\n");
    assert_eq!(
        client.apply(apply(&stale)).await.expect_err("stale").code(),
        Code::Aborted
    );
    let unknown = GetRequest {
        kind: "Pod".to_owned(),
        ..GetRequest::default()
    };
    assert_eq!(
        client.get(unknown).await.expect_err("unknown").code(),
        Code::InvalidArgument
    );
    server.plane.api.ingest.close();
    assert_eq!(
        client.apply(apply(SERVICE)).await.expect_err("closed").code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn it_refuses_names_that_nothing_can_have_and_waits_of_more_than_an_hour() {
    let mut server = start().await;
    let client = &mut server.client;
    assert_eq!(
        client.get(get("")).await.expect_err("empty").code(),
        Code::InvalidArgument
    );
    for request in [
        ApplyRequest {
            wait_milliseconds: 3_600_001,
            ..apply(SERVICE)
        },
        ApplyRequest {
            namespace: "Not_One".to_owned(),
            ..apply(SERVICE)
        },
    ] {
        let refused = client.apply(request).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
    }
    assert!(server.plane.api.ingest.held().documents.is_empty());
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let server = start().await;
    server.stop.send_replace(true);
    assert!(matches!(server.task.await, Ok(Ok(()))));
}
