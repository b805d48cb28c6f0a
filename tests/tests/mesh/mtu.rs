//! Pods keep their 1500 bytes on a wire of 1500 bytes, and nothing vanishes in between.

use std::time::Duration;

use anyhow::Result;
use signet_tests::{
    bin,
    lab::{Family, Lab},
    netns, shop,
};

#[test]
fn pods_with_the_wires_mtu_find_the_way() -> Result<()> {
    if !bin::root_or_skip("pods with the wire's MTU") {
        return Ok(());
    }
    let lab = Lab::up(2, &shop::base())?;
    let web = lab.netns("shop/web")?;
    netns::serve_echo(&lab.netns("shop/db")?, 3306)?;
    for family in [Family::V4, Family::V6] {
        let db = lab.socket("shop/db", family, 3306)?;
        netns::tcp_echo(&web, db, &vec![9; 3_000_000], Duration::from_secs(20))?;
        // Fragments: more than any wire carries in one piece. IPv6 routers do not fragment, so each end has to be
        // told once that its fragments are too big.
        let tries = netns::udp_echo(&web, db, &[3; 8_000], Duration::from_secs(6), 6)?;
        let told = if family == Family::V4 { 1 } else { 3 };
        assert!(
            tries <= told,
            "{tries} tries until fragments went through ({family:?})"
        );
        // Full-sized and not to be fragmented: the first is answered by "too big", the next ones fit.
        let address = db.ip().to_string();
        let size = if family == Family::V4 { "1472" } else { "1452" };
        let out = lab.exec(
            "shop/web",
            &[
                "ping", "-M", "do", "-s", size, "-c", "3", "-i", "0.1", "-W", "1", &address,
            ],
        )?;
        let text = String::from_utf8_lossy(&out.stdout).to_lowercase()
            + &String::from_utf8_lossy(&out.stderr).to_lowercase();
        assert!(
            text.contains("mtu") || text.contains("too long") || text.contains("too big"),
            "a blackhole: {text}"
        );
        let out = lab.exec(
            "shop/web",
            &[
                "ping", "-M", "do", "-s", "1300", "-c", "3", "-i", "0.1", "-W", "1", &address,
            ],
        )?;
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stdout)
        );
    }
    Ok(())
}
