//! The admission of YAML, as `apply` and the API do it: bytes -> documents -> what proxies would be told, which a proxy must
//! take.

use std::sync::Arc;

use prost::Message;
use tsunagi::config::{Document, Problem, from_stored, parse, survey};
use tsunagi::snapshot::World;
use tsunagi_proto::model::{EndpointSet, Host};
use tsunagi_proto::wire::mesh::{self, resource::Kind};

/// Is every document of it taken?
pub fn admission(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        // Refused before it is read.
        return false;
    };
    let survey = survey("a.yaml", text, "default");
    match parse("a.yaml", text, "default") {
        Ok(documents) => {
            assert!(survey.problems.is_empty(), "{:?}", survey.problems);
            assert_eq!(survey.documents.len(), documents.len());
            admitted(documents)
        }
        Err(problems) => {
            refused(&problems, text);
            false
        }
    }
}

fn admitted(documents: Vec<Document>) -> bool {
    for document in &documents {
        let back = from_stored(&document.object).expect("what was admitted is read back from the store");
        assert_eq!((&back.key, &back.spec), (&document.key, &document.spec));
    }
    let any = !documents.is_empty();
    told(&World::build(documents.into_iter().map(Arc::new), 1, None));
    any
}

/// Every problem says what is wrong, in one line, and where in the text that is.
fn refused(problems: &[Problem], text: &str) {
    assert!(!problems.is_empty(), "refused without a reason");
    // Whatever anybody may call the end of a line.
    let ends = text.matches(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']);
    let last = u32::try_from(ends.count() + 1).unwrap_or(u32::MAX);
    for problem in problems {
        let shown = problem.to_string();
        assert!(!problem.reason.is_empty() && !shown.contains('\n'), "{shown:?}");
        assert!(shown.len() < 4096, "{} bytes", shown.len());
        assert!((1..=last).contains(&problem.line), "line {}: {shown}", problem.line);
    }
}

/// What the world finds no fault with, a proxy takes.
fn told(world: &World) {
    let faultless = world.problems().is_empty();
    world.warnings();
    for fqdn in world.host_names() {
        let host = world.host(&fqdn, "default").map(|encoded| kind(&encoded.bytes));
        if let Some(Kind::Host(host)) = host {
            assert_eq!(host.fqdn, fqdn);
            let checked = Host::try_from(host);
            assert!(checked.is_ok() || !faultless, "{checked:?}");
            if let Ok(Some(table)) = checked.map(|host| host.routes) {
                super::judged::table(&table);
            }
        }
        let endpoints = world.endpoints(&fqdn).map(|encoded| kind(&encoded.bytes));
        if let Some(Kind::Endpoints(endpoints)) = endpoints {
            let checked = EndpointSet::whole(endpoints);
            assert!(checked.is_ok() || !faultless, "{checked:?}");
        }
    }
}

fn kind(bytes: &[u8]) -> Kind {
    let resource = mesh::Resource::decode(bytes).expect("what was encoded is decoded");
    resource.kind.expect("a resource of a kind")
}

/// All that proxies are told when these documents are applied: what the corpus of this target is made of.
pub fn encoded(yaml: &str) -> Vec<Vec<u8>> {
    let documents = parse("a.yaml", yaml, "default").unwrap_or_default();
    let world = World::build(documents.into_iter().map(Arc::new), 1, None);
    let names = world.host_names();
    let of_name = |fqdn: &String| [world.host(fqdn, "default"), world.endpoints(fqdn)];
    let told = names.iter().flat_map(of_name).flatten();
    told.map(|encoded| encoded.bytes.to_vec()).collect()
}
