//! Limits of a program: what it may not do, and how much of the machine it gets.

use trainyard_executor::Containers;
use trainyard_executor::conformance::{Candidate, check};

use crate::place::{RealDocker, script};

#[tokio::test]
async fn class_15_a_program_has_the_usual_capabilities_and_can_gain_no_privileges() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script("grep -E '^(Cap|NoNewPrivs)' /proc/self/status"));
        let (handle, _) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await.stdout;
        // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID.
        for (set, has) in [
            ("CapPrm", 0xeb),
            ("CapEff", 0xeb),
            ("CapBnd", 0xeb),
            ("CapAmb", 0),
        ] {
            let line = format!("{set}:\t{has:016x}\n");
            assert!(printed.contains(&line), "{set}: {printed}");
        }
        assert!(printed.contains("NoNewPrivs:\t1\n"), "{printed}");
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_without_capabilities_in_the_configuration_a_program_has_none() {
    check(RealDocker::with_capabilities(&[]).await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script(
            "grep '^CapBnd' /proc/self/status; chown 1 /workspace || echo refused",
        ));
        let (handle, _) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await.stdout;
        assert_eq!(printed, "CapBnd:\t0000000000000000\nrefused\n");
        kit
    })
    .await;
}

#[tokio::test]
async fn root_can_do_with_files_and_users_of_its_container_what_installers_do() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text =
            "touch a && chown 1000:1000 a && chmod 400 a && cat a && su user -s /bin/sh -c 'id -u'";
        let (handle, code) = kit.run(&executor, &kit.spec_of(script(text))).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_eq!((code, &*printed.stdout), (0, "1000\n"), "{printed:?}");
        kit
    })
    .await;
}

#[tokio::test]
async fn class_16_a_program_sees_neither_the_engine_nor_the_host() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "ls /var/run/docker.sock /run/docker.sock 2>/dev/null || echo none\n\
                    grep -c -v -E ' (overlay|proc|sysfs|tmpfs|devpts|mqueue|cgroup2?|ext4|xfs|btrfs) ' \
                    /proc/self/mounts || true\n\
                    awk '$3 ~ /ext4|xfs|btrfs/ {print $2}' /proc/self/mounts | sort | tr '\\n' ' '";
        let (handle, _) = kit.run(&executor, &kit.spec_of(script(text))).await;
        let printed = kit.printed(&executor, &handle).await.stdout;
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[..2], ["none", "0"], "{printed}");
        // Files that Docker puts into each container, and the volume of the init.
        for mount in lines.get(2).unwrap_or(&"").split_whitespace() {
            let own = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/trainyard/init"];
            assert!(own.contains(&mount), "{mount} is a mount of the host's: {printed}");
        }
        kit
    })
    .await;
}

#[tokio::test]
async fn limits_hold() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "df -k /dev/shm | awk 'NR == 2 {print $2}'\n\
                    for n in $(seq 1 30); do sleep 30 & done";
        let mut spec = kit.spec_of(script(text));
        spec.limits.shm = Some(8 << 20);
        spec.limits.pids = Some(16);
        let (handle, code) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_ne!(code, 0, "the 30 processes were too many: {printed:?}");
        assert_eq!(printed.stdout, "8192\n");
        assert!(printed.stderr.contains("fork"), "{printed:?}");
        kit
    })
    .await;
}

#[tokio::test]
async fn the_image_s_entry_point_does_not_change_what_a_script_means() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let dockerfile =
            "FROM trainyard-test/busybox:1\nENTRYPOINT [\"echo\", \"entry\"]\nCMD [\"own\"]\n";
        let image = crate::building::build(&executor, &[("Dockerfile", dockerfile)])
            .await
            .unwrap();
        let own = {
            let mut spec = kit.spec_of(script(""));
            spec.command = None;
            spec
        };
        for (mut spec, expected) in [
            (kit.spec_of(script("echo script")), "script\n"),
            (own, "entry own\n"),
        ] {
            spec.image = image.id.clone();
            let (handle, _) = kit.run(&executor, &spec).await;
            assert_eq!(kit.printed(&executor, &handle).await.stdout, expected);
            Containers::remove(&executor, &handle).await.unwrap();
        }
        crate::building::remove(&image).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn the_bytes_that_a_program_has_written_are_reported_while_it_runs() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        // Half of it into a file that no folder holds any more.
        let text = "dd if=/dev/zero of=/fill bs=1M count=10 2>/dev/null; exec 3>/gone; rm /gone\n\
                    dd if=/dev/zero bs=1M count=10 >&3 2>/dev/null; sleep 600";
        let spec = kit.spec_of(script(text));
        let handle = kit.start(&executor, &spec).await;
        let patience = std::time::Duration::from_secs(120);
        let written = tokio::time::timeout(patience, async {
            loop {
                match executor.written(&handle).await.unwrap() {
                    Some(bytes) if bytes >= 20 << 20 => break bytes,
                    _ => tokio::task::yield_now().await,
                }
            }
        });
        assert!(written.await.unwrap() < 30 << 20);
        executor.remove(&handle).await.unwrap();
        assert_eq!(executor.written(&handle).await.unwrap(), None);
        kit
    })
    .await;
}

#[tokio::test]
async fn a_program_cannot_write_what_the_engine_keeps_outside_of_its_container() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "for file in /etc/hosts /etc/hostname /etc/resolv.conf; do\n\
                    cat $file >/dev/null && (echo x >> $file) 2>/dev/null && echo wrote $file\n\
                    done; echo tried";
        let (handle, _) = kit.run(&executor, &kit.spec_of(script(text))).await;
        let printed = kit.printed(&executor, &handle).await.stdout;
        assert_eq!(printed, "tried\n");
        kit
    })
    .await;
}
