//! What a caller demands beyond a valid chain.

use crate::x509::profile::Purpose;
use crate::x509::testing::{Pki, at};
use crate::x509::verify::{Expect, Usage, VerifyError, verify};

fn check(
    pki: &Pki,
    svid: &crate::svid::X509Svid,
    expect: &Expect,
) -> Result<crate::x509::verify::VerifiedSvid, VerifyError> {
    verify(svid.chain(), &pki.bundle, at(0), expect)
}

#[test]
fn every_purpose_verifies_as_itself_and_as_no_other() {
    let pki = Pki::new("td.test");
    let svids = [
        pki.node("a"),
        pki.workload_api("web"),
        pki.workload("web", "a"),
        pki.identity_service(),
    ];
    for (svid, own) in svids.iter().zip(Purpose::ALL) {
        for usage in [Usage::Client, Usage::Server, Usage::Either] {
            for purpose in Purpose::ALL {
                let expect = Expect {
                    purpose: Some(purpose),
                    ..Expect::any(usage)
                };
                match check(&pki, svid, &expect) {
                    Ok(found) => assert_eq!((found.purpose, purpose), (own, own)),
                    Err(VerifyError::WrongPurpose {
                        found, expected, ..
                    }) => {
                        assert_eq!((found, expected), (own, purpose));
                        assert_ne!(own, purpose);
                    }
                    Err(error) => panic!("{own}: {error}"),
                }
            }
        }
    }
}

#[test]
fn id_is_compared_whole() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    let with = |id| {
        check(
            &pki,
            &svid,
            &Expect {
                id: Some(id),
                ..Expect::any(Usage::Either)
            },
        )
    };
    with(pki.workload_id("web")).unwrap();
    for other in ["we", "webb", "Web", "web.a"] {
        let error = with(pki.workload_id(other)).unwrap_err();
        assert!(
            matches!(error, VerifyError::WrongId { .. }),
            "{other}: {error}"
        );
    }
}

#[test]
fn an_agent_plane_svid_works_from_its_own_node_only() {
    let pki = Pki::new("td.test");
    let svid = pki.workload("web", "a");
    let from = |node| {
        check(
            &pki,
            &svid,
            &Expect::workload_on(pki.workload_id("web"), node),
        )
    };
    let found = from(pki.node_id("a")).unwrap();
    assert_eq!(found.binding, Some(pki.binding("a")));
    assert_eq!(
        found.spki_sha256,
        crate::x509::profile::sha256(&svid.key().spki())
    );
    assert_eq!(found.cert_sha256, svid.sha256());
    assert!(matches!(
        from(pki.node_id("b")),
        Err(VerifyError::WrongNode { .. })
    ));
}

#[test]
fn a_workload_api_svid_is_no_proof_between_agents() {
    let pki = Pki::new("td.test");
    let svid = pki.workload_api("web");
    let unbound = Expect {
        node: None,
        ..Expect::workload_on(pki.workload_id("web"), pki.node_id("a"))
    };
    assert!(matches!(
        check(&pki, &svid, &unbound),
        Err(VerifyError::WrongPurpose { .. })
    ));
    let bound = Expect::workload_on(pki.workload_id("web"), pki.node_id("a"));
    assert!(matches!(
        check(&pki, &svid, &bound),
        Err(VerifyError::WrongNode { .. })
    ));
}
