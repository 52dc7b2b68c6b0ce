//! What is to say of VirtualServices that are valid but will not do what their authors meant. Called by `host` for rules
//! in force, and by `world` for a document as a whole, whatever is in force.

use super::catalog::Catalog;
use super::delegates::{self, Placed};
use super::routes;
use super::rule_index::{concerns_sidecars, virtual_service};
use crate::config::{Document, ExportTo, HttpRule};

/// Of rules in force: those that none of the requests reaches, and destinations that get none.
pub(super) fn of_rules(rules: &[Placed<'_, HttpRule>]) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(all) = rules.iter().position(|placed| routes::catches_all(&placed.rule)) {
        let catching = rules.get(all);
        let hidden = rules.iter().skip(all + 1);
        warnings.extend(catching.into_iter().flat_map(|catching| {
            hidden.clone().map(move |hidden| {
                let place = if hidden.key == catching.key {
                    format!("spec.http[{}]", catching.index)
                } else {
                    format!("spec.http[{}] of {}", catching.index, catching.key)
                };
                let Placed { key, index, .. } = hidden;
                format!("{key}: spec.http[{index}]: hidden by {place}, which matches every request")
            })
        }));
    }
    for Placed { key, index, rule } in rules {
        for number in routes::forgotten(rule) {
            warnings.push(format!(
                "{key}: spec.http[{index}].route[{number}].weight: is not given: beside others such a destination gets no requests"
            ));
        }
    }
    warnings
}

/// Of one VirtualService.
pub(super) fn of_document(catalog: &Catalog, document: &Document) -> Vec<String> {
    let Some(rule) = virtual_service(document) else {
        return Vec::new();
    };
    let key = &document.key;
    let mut warnings = Vec::new();
    if !concerns_sidecars(rule) {
        warnings.push(format!(
            "{key}: spec.gateways: is for gateways only, `mesh` is not among them: no sidecar uses it"
        ));
        return warnings;
    }
    if rule.export_to == ExportTo::Namespaces(Vec::new()) {
        warnings.push(format!("{key}: spec.exportTo: exported to nobody: no sidecar uses it"));
    } else if rule.hosts.is_empty() && catalog.roots(key).is_empty() {
        warnings.push(format!(
            "{key}: spec.hosts: has none, and no VirtualService delegates to this one: no sidecar uses it"
        ));
    }
    delegates::expand(catalog, document, &mut warnings);
    warnings
}
