//! Which pod a process belongs to, by the name that the kubelet gave its cgroup.

/// The pod of `/proc/PID/cgroup`'s text, if it is one of the kubelet's.
///
/// The outermost name counts: what runs in a pod may make groups of its own below, and call them
/// what it likes.
pub(super) fn pod_of(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        // hierarchy-ID:controllers:path
        let path = line.splitn(3, ':').nth(2)?;
        let mut parts = path
            .split('/')
            .skip_while(|part| !part.starts_with("kubepods"));
        parts.find_map(pod_of_part)
    })
}

/// `pod7d0f...` of the cgroupfs driver, `kubepods-burstable-pod7d0f_....slice` of systemd's.
fn pod_of_part(part: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.rsplit_once("-pod")?.1,
    };
    let uid = uid.replace('_', "-");
    is_uid(&uid).then_some(uid)
}

/// Only what the API server makes; the kubelet's own (static pods) have no dashes.
fn is_uid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "7d0f1a2b-0000-4000-8000-00000000c0de";

    #[test]
    fn names_of_both_drivers_and_runtimes() {
        let systemd = UID.replace('-', "_");
        for (name, text) in [
            (
                "systemd, guaranteed",
                format!("0::/kubepods.slice/kubepods-pod{systemd}.slice/cri-containerd-1f.scope\n"),
            ),
            (
                "systemd, burstable",
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/crio-1f.scope"
                ),
            ),
            ("cgroupfs", format!("0::/kubepods/besteffort/pod{UID}/1f")),
            (
                "v1",
                format!("9:name=systemd:/\n4:memory:/kubepods/burstable/pod{UID}/1f\n0::/"),
            ),
            (
                "a kubelet in a container",
                format!("0::/docker/aa/kubelet/kubepods/pod{UID}/1f"),
            ),
            (
                "seen from a container",
                format!("0::/../../kubepods-pod{systemd}.slice/cri-containerd-1f.scope"),
            ),
        ] {
            assert_eq!(pod_of(&text).as_deref(), Some(UID), "{name}");
        }
    }

    #[test]
    fn what_is_no_pod() {
        for text in [
            "",
            "0::/",
            "0::/system.slice/kubelet.service",
            "0::/kubepods.slice/kubepods-burstable.slice",
            "0::/kubepods/podnonsense/1f",
            // A static pod by the hash of its file.
            "0::/kubepods/pod0123456789abcdef0123456789abcdef/1f",
        ] {
            assert_eq!(pod_of(text), None, "{text}");
        }
        let elsewhere = format!("0::/user.slice/pod{UID}");
        assert_eq!(pod_of(&elsewhere), None, "nobody but the kubelet says");
    }

    #[test]
    fn a_pod_cannot_call_itself_another() {
        let other = "11111111-2222-3333-4444-555555555555";
        let text = format!("0::/kubepods/pod{UID}/1f/kubepods/pod{other}");
        assert_eq!(pod_of(&text).as_deref(), Some(UID));
    }
}
