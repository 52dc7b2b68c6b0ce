//! What the manifests and the two programs agree on: flags and ports of the control plane, injection settings, and pods that come out
//! of the injection as Kubernetes takes them.

use serde_json::{Value, json};
use tsunagi_tests::binaries;

use crate::VALUES;
use crate::objects::find;
use crate::tools::{run, tools};

fn tsunagi(arguments: &[&str], input: &str) -> Result<String, String> {
    run(&binaries().tsunagi, arguments, input)
}

#[test]
fn every_flag_and_port_of_the_deployment_is_one_of_the_control_plane() {
    let Some(tools) = tools() else { return };
    let objects = tools.judge(&tools.kustomize("deploy/kustomize/base")).documents;
    let container = &find(&objects, "Deployment").next().unwrap()["spec"]["template"]["spec"]["containers"][0];
    let help = tsunagi(&["serve", "--help"], "").unwrap();
    let flags: Vec<&str> = help
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.starts_with("--"))
        .collect();
    let ports = container["ports"].as_array().unwrap();
    for argument in container["args"].as_array().unwrap().iter().filter_map(Value::as_str) {
        let flag = argument.split('=').next().unwrap();
        assert!(argument == "serve" || flags.contains(&flag), "{flag}: {help}");
        if let Some((_, port)) = argument.rsplit_once(':').filter(|_| flag.ends_with("-addr")) {
            let served = ports
                .iter()
                .any(|one| one["containerPort"].as_u64() == port.parse().ok());
            assert!(served, "{argument}: {ports:?}");
        }
    }
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let flag = name.trim_start_matches("TSUNAGI_").to_lowercase().replace('_', "-");
        assert!(flags.contains(&format!("--{flag}").as_str()), "{name}: {help}");
    }
}

/// The file that the control plane mounts.
fn settings(objects: &[Value]) -> String {
    let mut maps = find(objects, "ConfigMap").filter_map(|map| map["data"]["injection.yaml"].as_str());
    maps.next().expect("a ConfigMap with injection.yaml").to_owned()
}

#[test]
fn pods_come_out_of_the_injection_as_kubernetes_takes_them() {
    let Some(tools) = tools() else { return };
    let example = tools.kustomize("deploy/examples/user-service");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_string_lossy().into_owned();
    let mut all = vec![settings(
        &tools.judge(&tools.kustomize("deploy/kustomize/base")).documents,
    )];
    all.extend(VALUES.map(|values| settings(&tools.judge(&tools.render(values)).documents)));
    for settings in all {
        std::fs::write(file.path(), &settings).unwrap();
        for native in ["true", "false"] {
            let arguments = [
                "inject",
                "--inject-config",
                &path,
                "--native-sidecars",
                native,
                "-f",
                "-",
            ];
            let injected = tsunagi(&arguments, &example).unwrap_or_else(|said| panic!("{settings}{said}"));
            let objects = tools.sound("the injected example", &injected);
            for deployment in find(&objects, "Deployment") {
                let pod = &deployment["spec"]["template"]["spec"];
                let list = if native == "true" {
                    "initContainers"
                } else {
                    "containers"
                };
                let sidecar = pod[list]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|one| one["name"] == "tsunagi-proxy");
                let sidecar = sidecar.unwrap_or_else(|| panic!("no sidecar: {pod}"));
                // By which the PodMonitor finds it.
                let ports = sidecar["ports"].as_array().unwrap();
                assert!(
                    ports.iter().any(|port| port["containerPort"] == json!(15090)),
                    "{sidecar}"
                );
                let image = sidecar["image"].as_str().unwrap();
                assert!(settings.contains(image), "{image}: {settings}");
            }
        }
    }
}
