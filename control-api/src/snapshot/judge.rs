//! Admission by the code with which a proxy would refuse: what passes here cannot be refused there, except by another
//! version of it.

use std::sync::Arc;

use tsunagi_proto::model::{EndpointSet, Host, Invalid};
use tsunagi_proto::wire::mesh;

use crate::config::{Document, Problem};

/// What a proxy would say of the host; it is put down to the first of the documents that made it.
pub(super) fn host<'a>(host: mesh::Host, made_by: impl Iterator<Item = &'a Arc<Document>>) -> Option<Problem> {
    Host::try_from(host).err().map(|invalid| problem(invalid, made_by))
}

pub(super) fn endpoints<'a>(
    endpoints: mesh::Endpoints,
    made_by: impl Iterator<Item = &'a Arc<Document>>,
) -> Option<Problem> {
    EndpointSet::whole(endpoints)
        .err()
        .map(|invalid| problem(invalid, made_by))
}

fn problem<'a>(invalid: Invalid, mut made_by: impl Iterator<Item = &'a Arc<Document>>) -> Problem {
    let mut problem = Problem {
        field: invalid.field,
        reason: invalid.reason,
        ..Problem::default()
    };
    if let Some(document) = made_by.next() {
        problem.file = document.origin.file.clone();
        problem.line = document.origin.line;
        problem.kind = document.key.kind.to_string();
        problem.name = document.key.name.clone();
    }
    problem
}
