//! Wrong input gets one clear line that names the object and the fix, a non-zero exit, and loses nothing.

use std::{fs, net::TcpListener, process::Output, time::Duration};

use anyhow::Result;
use signet_tests::{
    bin,
    lab::{Family, Lab, wait},
    netns, shop,
};

/// Holds a failed command against what its message must name.
fn refused(out: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn wrong_words_are_usage_errors() -> Result<()> {
    refused(
        &bin::command("signetctl")?.arg("stauts").output()?,
        2,
        &["stauts", "status"],
    );
    refused(
        &bin::command("signetctl")?
            .args(["policy", "explain", "--from", "a"])
            .output()?,
        2,
        &["--to"],
    );
    refused(
        &bin::command("signet-agent")?.args(["run"]).output()?,
        2,
        &["--node-name"],
    );
    refused(
        &bin::command("signetctl")?
            .args(["--socket", "/nonexistent/s.sock", "status"])
            .output()?,
        1,
        &["/nonexistent/s.sock", "running"],
    );
    Ok(())
}

#[test]
fn bad_manifests_are_refused_before_anything_is_made() -> Result<()> {
    if !bin::root_or_skip("bad manifests") {
        return Ok(());
    }
    let cases: &[(&str, &str, &[&str])] = &[
        ("broken", "kind: Pod\n  metadata: [", &["objects.yaml"]),
        (
            "unknown",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, lables: {a: b}}\n",
            &["objects.yaml", "Namespace", "shop", "lables"],
        ),
        (
            "kind",
            "apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n",
            &["objects.yaml", "Gadget"],
        ),
    ];
    for (name, text, words) in cases {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("objects.yaml"), text)?;
        let lab = format!("bad{name}");
        let out = bin::command("signetctl")?
            .args(["lab", "up", "--name", &lab, "--manifests"])
            .arg(dir.path())
            .output()?;
        refused(&out, 1, words);
        let left = fs::read_dir("/run/netns").map(|d| {
            d.flatten()
                .filter(|e| {
                    e.file_name()
                        .to_string_lossy()
                        .starts_with(&format!("sg-{lab}-"))
                })
                .count()
        });
        assert_eq!(left.unwrap_or(0), 0, "{name}: namespaces were left behind");
    }
    let dir = tempfile::tempdir()?;
    let twice = shop::base()
        + &shop::pod_with("shop", "a", "web", "node1", &[], &["10.61.1.77"])
        + &shop::pod_with("shop", "b", "web", "node1", &[], &["10.61.1.77"]);
    fs::write(dir.path().join("objects.yaml"), twice)?;
    let out = bin::command("signetctl")?
        .args(["lab", "up", "--name", "badtwice", "--manifests"])
        .arg(dir.path())
        .output()?;
    refused(&out, 1, &["10.61.1.77", "shop/a", "shop/b"]);
    Ok(())
}

#[test]
fn a_manifest_that_goes_bad_keeps_the_last_good_state_and_says_so() -> Result<()> {
    if !bin::root_or_skip("a manifest that goes bad") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    let db = lab.socket("shop/db", Family::V4, 3306)?;
    let (web, stray) = (lab.netns("shop/web")?, lab.netns("other/stray")?);
    netns::tcp_echo(&web, db, b"before", Duration::from_secs(5))?;

    let dir = lab.describe()?["manifests_dir"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
            && fs::read_to_string(&path)?.contains("AuthenticatedPolicy")
        {
            let draft = path.with_extension("new");
            fs::write(
                &draft,
                "apiVersion: signet.dev/v1alpha1\nkind: AuthenticatedPolicy\nmetadata: {name: db, namespace: shop}\nspec: {endpointSelektor: {}}\n",
            )?;
            fs::rename(&draft, &path)?;
        }
    }
    wait("the problem to be told", Duration::from_secs(10), || {
        let status = lab.ask("node2", &["status"])?;
        Ok(status["manifest_problems"]
            .to_string()
            .contains("endpointSelektor")
            || status["policies"]["problems"]
                .to_string()
                .contains("endpointSelektor"))
    })?;
    netns::tcp_echo(&web, db, b"still", Duration::from_secs(5))?;
    netns::tcp_echo(&stray, db, b"still not", Duration::from_millis(700)).unwrap_err();
    Ok(())
}

#[test]
fn the_service_says_what_stands_in_its_way() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (data, manifests) = (dir.path().join("data"), dir.path().join("manifests"));
    fs::create_dir_all(&manifests)?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.to_string();
    let socket = dir.path().join("admin.sock");
    let run = |listen: &str, manifests: &std::path::Path| -> Result<Output> {
        let mut command = bin::command("signet-identity")?;
        command.args([
            "run",
            "--trust-domain",
            "td.test",
            "--listen",
            listen,
            "--metrics",
            "127.0.0.1:0",
        ]);
        command
            .arg("--data-dir")
            .arg(&data)
            .arg("--manifests")
            .arg(manifests)
            .arg("--admin-socket")
            .arg(&socket);
        Ok(command.output()?)
    };
    refused(&run(&port, &manifests)?, 1, &[&port, "in use"]);
    refused(
        &run("127.0.0.1:0", &dir.path().join("nowhere"))?,
        1,
        &["nowhere"],
    );

    let mut service = bin::command("signet-identity")?
        .args([
            "run",
            "--trust-domain",
            "td.test",
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(&data)
        .arg("--manifests")
        .arg(&manifests)
        .arg("--admin-socket")
        .arg(&socket)
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let made = wait("the service to run", Duration::from_secs(20), || {
        Ok(socket.exists())
    });
    service.kill()?;
    service.wait()?;
    made?;
    let store: Vec<_> = fs::read_dir(&data)?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "redb"))
        .collect();
    assert_eq!(store.len(), 1, "one store file expected: {store:?}");
    let damaged = vec![0x5a; 4096];
    fs::write(&store[0], &damaged)?;
    refused(
        &run("127.0.0.1:0", &manifests)?,
        1,
        &[&store[0].to_string_lossy()],
    );
    assert_eq!(fs::read(&store[0])?, damaged, "a damaged store was changed");
    Ok(())
}

#[test]
fn programs_without_root_say_so() -> Result<()> {
    if !bin::root_or_skip("programs without root") {
        return Ok(()); // as root: the programs are run as nobody below
    }
    let dir = bin::dir()?;
    let scratch = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .tempdir()?;
    let copy = |name: &str| -> Result<std::path::PathBuf> {
        let to = scratch.path().join(name);
        fs::copy(dir.join(name), &to)?;
        Ok(to)
    };
    let nobody = |name: &str, args: &[&str]| -> Result<Output> {
        use std::os::unix::process::CommandExt;
        Ok(std::process::Command::new(copy(name)?)
            .args(args)
            .uid(65534)
            .gid(65534)
            .current_dir("/")
            .output()?)
    };
    refused(
        &nobody("signetctl", &["lab", "up", "--name", "noroot"])?,
        1,
        &["root"],
    );
    let socket = scratch.path().join("t.sock");
    refused(
        &nobody(
            "signet-tunnel",
            &[
                "--control-socket",
                &socket.to_string_lossy(),
                "--metrics",
                "127.0.0.1:0",
            ],
        )?,
        1,
        &["root"],
    );
    Ok(())
}
