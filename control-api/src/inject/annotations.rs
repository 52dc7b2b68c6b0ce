//! What one pod wants to have otherwise than the settings say: its annotations, ours and Istio's usual ones, read once
//! and whole. A wrong value, or an annotation of ours that there is not, refuses the pod; one of Istio's that has no
//! meaning here is a warning. Called by `inject`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::settings::Amounts;
use super::{Refusal, values};

/// Everything that annotations say; what they do not say is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wishes {
    pub(super) cpu: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) cpu_limit: Option<String>,
    pub(super) memory_limit: Option<String>,
    pub(super) image: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) rewrite_probes: Option<bool>,
    pub(super) native_sidecar: Option<bool>,
    pub(super) hold_application: Option<bool>,
    pub(super) drain_timeout: Option<String>,
    pub(super) workers: Option<u16>,
    /// Where a connection that was not redirected goes on this pod.
    pub(super) app_port: Option<u16>,
    /// Secrets that the sidecar is to have, for rules with a `credentialName`.
    pub(super) credentials: Vec<String>,
    /// Flags of `tsunagi-proxy redirect install` and their values.
    pub(super) redirect: BTreeMap<&'static str, String>,
}

/// Annotations by the name they have behind the prefix.
const OURS: &str = "sidecar.tsunagi.dev/";
const ISTIO: &str = "sidecar.istio.io/";
const ISTIO_TRAFFIC: &str = "traffic.sidecar.istio.io/";
const ISTIO_CONFIG: &str = "proxy.istio.io/config";
/// Of ours, for other readers than this one.
const NOT_WISHES: [&str; 2] = ["inject", "status"];

/// What each annotation of either mesh means.
type Reader = fn(&mut Wishes, &str) -> Result<(), String>;
const WISHES: [(&str, Reader); 8] = [
    ("proxyCPU", |wishes, text| set(&mut wishes.cpu, values::quantity(text))),
    ("proxyMemory", |wishes, text| {
        set(&mut wishes.memory, values::quantity(text))
    }),
    ("proxyCPULimit", |wishes, text| {
        set(&mut wishes.cpu_limit, values::quantity(text))
    }),
    ("proxyMemoryLimit", |wishes, text| {
        set(&mut wishes.memory_limit, values::quantity(text))
    }),
    ("proxyImage", |wishes, text| set(&mut wishes.image, values::image(text))),
    ("logLevel", |wishes, text| {
        set(&mut wishes.log_level, values::log_level(text))
    }),
    ("rewriteAppHTTPProbers", |wishes, text| {
        set(&mut wishes.rewrite_probes, values::flag(text))
    }),
    ("nativeSidecar", |wishes, text| {
        set(&mut wishes.native_sidecar, values::flag(text))
    }),
];
/// Those that only ours have.
const OWN_WISHES: [(&str, Reader); 6] = [
    ("credentials", |wishes, text| {
        wishes.credentials = values::credentials(text)?;
        Ok(())
    }),
    ("holdApplicationUntilProxyStarts", |wishes, text| {
        set(&mut wishes.hold_application, values::flag(text))
    }),
    ("drainTimeout", |wishes, text| {
        set(&mut wishes.drain_timeout, values::duration(text))
    }),
    ("concurrency", |wishes, text| {
        wishes.workers = concurrency(text)?;
        Ok(())
    }),
    ("appPort", |wishes, text| set(&mut wishes.app_port, values::port(text))),
    ("excludeOutboundUids", |wishes, text| {
        redirect(wishes, "--exclude-uids", values::uids(text))
    }),
];
/// Of `traffic.sidecar.istio.io/` and of ours.
const TRAFFIC: [(&str, Reader); 6] = [
    ("includeOutboundIPRanges", |wishes, text| {
        redirect(wishes, "--include-outbound-cidrs", values::ranges_or_all(text))
    }),
    ("excludeOutboundIPRanges", |wishes, text| {
        redirect(wishes, "--exclude-outbound-cidrs", values::ranges(text))
    }),
    ("includeInboundPorts", |wishes, text| {
        redirect(wishes, "--include-inbound-ports", values::ports_or_all(text))
    }),
    ("excludeInboundPorts", |wishes, text| {
        redirect(wishes, "--exclude-inbound-ports", values::ports(text))
    }),
    ("includeOutboundPorts", |wishes, text| {
        redirect(wishes, "--include-outbound-ports", values::ports(text))
    }),
    ("excludeOutboundPorts", |wishes, text| {
        redirect(wishes, "--exclude-outbound-ports", values::ports(text))
    }),
];

fn set<T>(wish: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *wish = Some(value?);
    Ok(())
}

fn redirect(wishes: &mut Wishes, flag: &'static str, value: Result<String, String>) -> Result<(), String> {
    wishes.redirect.insert(flag, value?);
    Ok(())
}

/// As many worker threads as the proxy can have. 0: as many as it has where nobody says, which is `None`.
fn concurrency(text: &str) -> Result<Option<u16>, String> {
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(count @ 1..=256) => Ok(Some(count)),
        _ => Err(format!(
            "{} is not a number of worker threads: 0 (the default) to 256",
            values::shown(text)
        )),
    }
}

/// All wishes of a pod. Where both meshes' annotations say something, ours counts.
pub(super) fn read(template: &Value, warnings: &mut Vec<String>) -> Result<Wishes, Refusal> {
    let mut wishes = Wishes::default();
    let annotations = template["metadata"]["annotations"].as_object();
    let annotations = || annotations.into_iter().flatten();
    if let Some((name, value)) = annotations().find(|(name, _)| *name == ISTIO_CONFIG) {
        proxy_config(&mut wishes, text(name, value)?, warnings)?;
    }
    // Istio's first, so that ours come over them.
    for (name, value) in annotations() {
        let tables: &[&[(&str, Reader)]] = &[&WISHES];
        if let Some(short) = name.strip_prefix(ISTIO_TRAFFIC) {
            of_istio(&mut wishes, (name, short), value, &[&TRAFFIC], warnings)?;
        } else if let Some(short) = name.strip_prefix(ISTIO).filter(|short| !NOT_WISHES.contains(short)) {
            of_istio(&mut wishes, (name, short), value, tables, warnings)?;
        }
    }
    for (name, value) in annotations() {
        let Some(short) = name.strip_prefix(OURS).filter(|short| !NOT_WISHES.contains(short)) else {
            continue;
        };
        let tables: [&[(&str, Reader)]; 3] = [&WISHES, &OWN_WISHES, &TRAFFIC];
        let reader = find(short, &tables).ok_or_else(|| Refusal::new(field(name), unknown(short, &tables)))?;
        reader(&mut wishes, text(name, value)?).map_err(|reason| Refusal::new(field(name), reason))?;
    }
    Ok(wishes)
}

fn of_istio(
    wishes: &mut Wishes,
    (name, short): (&str, &str),
    value: &Value,
    tables: &[&[(&str, Reader)]],
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let Some(reader) = find(short, tables) else {
        warnings.push(format!("{}: has no meaning to Tsunagi and is not used", field(name)));
        return Ok(());
    };
    reader(wishes, text(name, value)?).map_err(|reason| Refusal::new(field(name), reason))
}

fn find(short: &str, tables: &[&[(&str, Reader)]]) -> Option<Reader> {
    let mut all = tables.iter().copied().flatten();
    all.find(|(name, _)| *name == short).map(|(_, reader)| *reader)
}

fn unknown(short: &str, tables: &[&[(&str, Reader)]]) -> String {
    let names = tables.iter().copied().flatten().map(|(name, _)| *name);
    let closest = names
        .map(|name| {
            (
                strsim::damerau_levenshtein(&short.chars().take(40).collect::<String>(), name),
                name,
            )
        })
        .min();
    match closest {
        Some((distance, name)) if distance <= short.len() / 4 => {
            format!("there is no such annotation, did you mean {OURS}{name}?")
        }
        _ => "there is no such annotation".to_owned(),
    }
}

/// A limit must not be below the request that goes with it, or no pod is made of it: those of annotations are refused.
pub(super) fn check_limits(wishes: &Wishes, requests: &Amounts, template: &Value) -> Result<(), Refusal> {
    let cpu = wishes.cpu.as_ref().or(requests.cpu.as_ref());
    let memory = wishes.memory.as_ref().or(requests.memory.as_ref());
    for (short, limit, request) in [
        ("proxyCPULimit", &wishes.cpu_limit, cpu),
        ("proxyMemoryLimit", &wishes.memory_limit, memory),
    ] {
        let (Some(limit), Some(request)) = (limit, request) else {
            continue;
        };
        if values::amount(limit) < values::amount(request) {
            let ours = format!("{OURS}{short}");
            let is_ours = template["metadata"]["annotations"].get(&ours).is_some();
            let name = if is_ours { ours } else { format!("{ISTIO}{short}") };
            let reason = format!("{limit} is less than the request, which is {request}");
            return Err(Refusal::new(field(&name), reason));
        }
    }
    Ok(())
}

fn field(name: &str) -> String {
    format!("metadata.annotations[{}]", name.chars().take(120).collect::<String>())
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| Refusal::new(field(name), "must be text"))
}

/// Istio's per-pod configuration, YAML in an annotation. Of its many keys these concern a sidecar of any mesh.
fn proxy_config(wishes: &mut Wishes, yaml: &str, warnings: &mut Vec<String>) -> Result<(), Refusal> {
    let name = field(ISTIO_CONFIG);
    let read: Result<Value, _> = serde_saphyr::from_str(yaml);
    let config = match read {
        Ok(Value::Object(config)) => config,
        Ok(Value::Null) => return Ok(()),
        Ok(_) => return Err(Refusal::new(name, "must be a mapping")),
        Err(error) => return Err(Refusal::new(name, format!("not YAML: {error}"))),
    };
    for (key, value) in config {
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let taken = match key.as_str() {
            "holdApplicationUntilProxyStarts" => set(&mut wishes.hold_application, values::flag(&value)),
            "terminationDrainDuration" => set(&mut wishes.drain_timeout, values::duration(&value)),
            "concurrency" => concurrency(&value).map(|workers| wishes.workers = workers),
            _ => {
                let key: String = key.chars().take(60).collect();
                warnings.push(format!("{name}: {key} has no meaning to Tsunagi and is not used"));
                Ok(())
            }
        };
        taken.map_err(|reason| Refusal::new(format!("{name}.{key}"), reason))?;
    }
    Ok(())
}
