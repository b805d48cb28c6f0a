//! `signetctl policy lint`: what is wrong or odd in a folder of manifests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use signet_crypto::spiffe_id::{SpiffeId, TrustDomain};
use signet_policy::lint::{Cluster, Finding, Severity};
use signet_policy::{NamedPort, PodFacts, PolicySet, Protocol};
use signet_source::{Pod, Snapshot};

use crate::output::{self, Format, Paint};

/// Options of `policy lint`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Folder with the cluster's manifests
    #[arg(value_name = "DIR")]
    manifests: PathBuf,
    /// Name of the trust domain; without it SPIFFE IDs in rules are not looked at
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// Exit with 0 if there are only warnings
    #[arg(long)]
    warnings_ok: bool,
}

#[derive(Serialize)]
struct Report {
    problems: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

/// 1 if there is something to say.
pub(super) fn run(options: &Options, format: Format) -> Result<u8> {
    let findings = findings(&options.manifests, options.trust_domain.as_ref());
    let count = |severity| {
        let alike = findings
            .iter()
            .filter(|finding| finding.severity == severity);
        alike.count()
    };
    let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
    match format {
        Format::Json | Format::Yaml => {
            let report = Report {
                problems,
                warnings,
                findings,
            };
            output::data(format, &report)?;
        }
        Format::Table | Format::Wide => {
            let paint = Paint::stdout();
            for finding in &findings {
                let word = match finding.severity {
                    Severity::Problem => paint.bad("problem"),
                    Severity::Warning => paint.unsure("warning"),
                };
                output::print_text(&format!("{word} {}: {finding}\n", finding.check))?;
            }
            eprintln!("{problems} problems, {warnings} warnings");
        }
    }
    Ok(u8::from(
        problems > 0 || (warnings > 0 && !options.warnings_ok),
    ))
}

/// Objects that are refused first, then what is odd about the others.
fn findings(dir: &Path, domain: Option<&TrustDomain>) -> Vec<Finding> {
    let snapshot = signet_source::survey(dir);
    let mut findings: Vec<Finding> = snapshot.problems.iter().map(refused_manifest).collect();
    let network: Vec<_> = snapshot
        .network_policies
        .values()
        .map(|p| (**p).clone())
        .collect();
    let authenticated: Vec<_> = snapshot
        .authenticated_policies
        .values()
        .map(|p| (**p).clone())
        .collect();
    let (set, refused) = PolicySet::from_objects(&network, &authenticated);
    findings.extend(refused.into_iter().map(|problem| Finding {
        severity: Severity::Problem,
        check: "Refused".to_owned(),
        object: problem.object,
        what: format!("{}: {}", problem.path, problem.what),
        fix: problem.fix,
    }));
    findings.extend(set.lint(&cluster(&snapshot, domain)));
    findings
}

fn refused_manifest(problem: &signet_source::Problem) -> Finding {
    // Written as "what; what to do".
    let message = problem.message.replace(['\n', '\r'], " ");
    let (what, fix) = match message.rsplit_once("; ") {
        Some((what, fix)) => (what.to_owned(), fix.to_owned()),
        None => (message, "correct it".to_owned()),
    };
    Finding {
        severity: Severity::Problem,
        check: "Refused".to_owned(),
        object: if problem.object.is_empty() {
            problem.file.clone()
        } else {
            format!("{}: {}", problem.file, problem.object)
        },
        what,
        fix,
    }
}

fn cluster(snapshot: &Snapshot, domain: Option<&TrustDomain>) -> Cluster {
    let live = || snapshot.pods.values().filter(|pod| pod.is_live());
    let facts = |pod: &Arc<Pod>| facts(pod, snapshot, domain);
    let namespaces = snapshot.namespaces.values();
    Cluster {
        namespaces: namespaces
            .map(|namespace| (namespace.name.clone(), namespace.labels.clone()))
            .collect(),
        service_accounts: snapshot.service_accounts.keys().cloned().collect(),
        // One that is not placed yet will have an identity once it is.
        pods: live()
            .filter(|pod| !pod.host_network && !pod.is_mirror())
            .map(facts)
            .collect(),
        host_pods: live()
            .filter(|pod| pod.host_network || pod.is_mirror())
            .map(facts)
            .collect(),
        trust_domain: domain.map(ToString::to_string),
    }
}

fn facts(pod: &Pod, snapshot: &Snapshot, domain: Option<&TrustDomain>) -> PodFacts {
    let id = domain
        .and_then(|domain| SpiffeId::workload(domain, &pod.namespace, &pod.service_account).ok());
    let namespace = snapshot.namespaces.get(&pod.namespace);
    let named_ports = pod.named_ports.iter().filter_map(|port| {
        Some(NamedPort {
            name: port.name.clone(),
            protocol: Protocol::from_name(&port.protocol)?,
            port: port.port,
        })
    });
    PodFacts {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        service_account: pod.service_account.clone(),
        spiffe_id: id.map(|id| id.to_string()).unwrap_or_default(),
        labels: pod.labels.clone(),
        namespace_labels: namespace
            .map(|found| found.labels.clone())
            .unwrap_or_default(),
        addresses: pod.addresses.clone(),
        named_ports: Some(named_ports.collect()),
        enrolled: true,
    }
}
