//! Servers that take more than their `limits`: each reaches them alone, its owner can read which, and the other tenant's goes on.

use std::path::Path;

use serde_json::json;

use super::prober::{World, attempt, is_root, told};
use super::support::{Stdiopool, eventually};
use super::user::USER;

/// The events of workers of anna's that reached that limit or were ended for it.
async fn events(world: &World, reason: &str) -> usize {
    let events = world.pool.admin_json("events?follow=false").await;
    let lines = events.as_array().expect("a list").iter();
    lines
        .filter(|it| it["reason"] == reason && it["tenant"] == "anna")
        .count()
}

/// What `worker_limits_reached_total` says of a limit.
async fn reached(world: &World, limit: &str) -> bool {
    let metrics = world.pool.metrics().await;
    let series =
        format!("stdiopool_worker_limits_reached_total{{limit=\"{limit}\",server=\"probe\"}} ");
    metrics
        .lines()
        .any(|line| line.starts_with(&series) && !line.ends_with(" 0"))
}

/// Whether this host lets stdiopool make groups of that controller, as `stdiopool doctor` says.
fn has_group(pool: &Stdiopool, controller: &str) -> bool {
    let doctor = pool.command(&["doctor", "--json"]).output().expect("runs");
    let checks: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let mut checks = checks.as_array().expect("a list").iter();
    let has = checks.any(|check| {
        let found = check["found"].as_str().unwrap_or_default();
        let found = found.split(", not for").next().unwrap_or_default();
        check["what"] == "control groups" && found.contains("version") && found.contains(controller)
    });
    if !has {
        eprintln!("SKIPPED: no control groups for {controller} here");
    }
    has
}

/// Folders of groups that a stdiopool with that pid has made, of which each tenant has one.
fn groups_of(pid: u32) -> Vec<String> {
    let name = format!("stdiopool-{pid}");
    let is_of_it = |found: &std::ffi::OsStr| {
        let found = found.to_str().and_then(|found| found.strip_prefix(&name));
        found.is_some_and(|rest| !rest.starts_with(|it: char| it.is_ascii_digit()))
    };
    let mut found = Vec::new();
    let mut waiting = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(folder) = waiting.pop() {
        for item in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if item.file_type().is_ok_and(|kind| kind.is_dir()) {
                if is_of_it(&item.file_name()) {
                    found.push(item.path().display().to_string());
                }
                waiting.push(item.path());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_fork_bomb_starts_no_more_than_it_may_and_others_go_on() {
    if !is_root() {
        return;
    }
    for more in [
        "limits = { pids = 20 }",
        "limits = { pids = 20 }\nsandbox = \"strict\"",
    ] {
        let mut world = World::with(more).await;
        if !has_group(&world.pool, "pids") {
            return;
        }
        let code = "import time\nstarted = 0\ntry:\n  for _ in range(200):\n    if os.fork() == 0:\n      time.sleep(600)\n      os._exit(0)\n    started += 1\nexcept OSError as error:\n  result = [started, error.errno]";
        let said = told(&world.anna, code).await;
        // One of the twenty is the server itself.
        assert_eq!(said, json!([19, 11]), "EAGAIN");
        assert_eq!(
            told(
                &world.bob,
                "import subprocess\nresult = subprocess.run(['true']).returncode"
            )
            .await,
            0
        );
        eventually("it is told", async || {
            events(&world, "limit_pids").await > 0 && reached(&world, "limit_pids").await
        })
        .await;
        assert!(world.pool.log().contains("`servers.probe.limits.pids`"));
        let pid = world.pool.pid();
        assert!(!groups_of(pid).is_empty());
        world.pool.terminate();
        assert_eq!(
            groups_of(pid),
            Vec::<String>::new(),
            "the host is as it was"
        );
    }
}

#[tokio::test]
async fn what_takes_more_memory_than_it_may_is_ended_and_told_why() {
    if !is_root() {
        return;
    }
    let world = World::with("limits = { memory = \"64MiB\" }").await;
    let code = "x = bytearray(400 << 20)\nimport time\ntime.sleep(30)";
    let answer = world.anna.call("try", json!({ "code": code })).await;
    assert!(answer.message().contains("limits.memory"), "{answer:?}");
    assert_eq!(told(&world.bob, "result = 1").await, 1);
    eventually("it is told", async || {
        events(&world, "memory").await > 0 && reached(&world, "limit_memory").await
    })
    .await;
    assert_eq!(
        told(&world.anna, "result = 1").await,
        1,
        "the next one starts"
    );
}

#[tokio::test]
async fn a_disk_filler_gets_errors_until_it_has_removed_something() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::os::unix::fs::chown(dir.path(), Some(USER), Some(USER)).expect("given");
    let limits = "limits = { disk = \"8MiB\" }";
    let run = |dir, args: &[String], _env: &[(&str, &str)]| Stdiopool::run_as(USER, dir, args);
    for (world, is_roots) in [
        (World::with(limits).await, true),
        (World::in_folder(dir, limits, run).await, false),
    ] {
        let one = "open('one', 'wb').write(bytes(16 << 20))";
        assert_eq!(attempt(&world.anna, one).await["errno"], 27, "EFBIG");
        let code = "os.remove('one')\nfor n in range(3):\n  open(f'part{n}', 'wb').write(bytes(3 << 20))\nresult = 1";
        assert_eq!(told(&world.anna, code).await, 1);
        // Or it is ended, where root may not limit others' processes, and the next begins with files that do not grow.
        eventually("files grow no more", async || {
            let code = "open('more', 'ab', 0).write(b'x')";
            let said = world.anna.call("try", json!({ "code": code })).await;
            said.response()["result"].to_string().contains("27")
        })
        .await;
        assert!(events(&world, "limit_disk").await > 0);
        assert!(reached(&world, "limit_disk").await);
        assert_eq!(
            told(
                &world.bob,
                "open('own', 'wb').write(bytes(3 << 20))\nresult = 1"
            )
            .await,
            1
        );
        told(&world.anna, "os.remove('part0')\nresult = 1").await;
        // Root without CAP_SYS_RESOURCE cannot let those go on that are there.
        let workers = world.pool.workers().await;
        let of_anna = workers.iter().filter(|it| it["tenant"] == "anna");
        for id in of_anna
            .filter(|_| is_roots)
            .filter_map(|it| it["id"].as_str())
        {
            let stopped = world.pool.command(&["stop", id]).status();
            assert!(stopped.expect("it runs").success());
        }
        eventually("files grow again", async || {
            attempt(&world.anna, "open('more', 'ab', 0).write(b'x')").await["errno"].is_null()
        })
        .await;
    }
}

#[tokio::test]
async fn who_writes_on_past_its_limit_is_ended() {
    if !is_root() {
        return;
    }
    let world = World::with("limits = { disk = \"8MiB\" }").await;
    // Without a name, so that no folder shows them.
    let code = "import tempfile, time\nkept = []\nfor n in range(4):\n  f = tempfile.TemporaryFile()\n  f.write(bytes(4 << 20))\n  f.flush()\n  kept.append(f)\ntime.sleep(60)";
    let answer = world.anna.call("try", json!({ "code": code })).await;
    assert!(answer.message().contains("limits.disk"), "{answer:?}");
    assert_eq!(told(&world.anna, "result = 1").await, 1);
    assert!(events(&world, "limit_disk").await > 0);
}

#[tokio::test]
async fn a_busy_loop_gets_its_part_of_a_processor() {
    if !is_root() {
        return;
    }
    let world = World::with("limits = { cpu = 0.2 }").await;
    if !has_group(&world.pool, "cpu") {
        return;
    }
    let code = "import time\nbegan = time.monotonic()\nwhile time.monotonic() - began < 2: pass\nresult = time.process_time()";
    let before = told(&world.anna, "import time\nresult = time.process_time()").await;
    let after = told(&world.anna, code).await;
    let used = after.as_f64().expect("seconds") - before.as_f64().expect("seconds");
    // Of two seconds 0.4, and a turn more at each end.
    assert!(used < 0.8, "{used}");
}

/// The group of a process in the hierarchy that shares the processors, with the folder of its tenant.
fn processor_group(pid: u64) -> (std::path::PathBuf, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let group = text.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let is_it = |it: &str| it.is_empty() || it == "cpu";
        let is_it = controllers.split(',').any(is_it) && group.contains("/stdiopool-");
        is_it.then(|| group.trim_start_matches('/').to_owned())
    });
    let group = group.expect("a group of its own");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("there");
    let folders = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let mut folders =
        folders.filter_map(|line| Some(Path::new(line.split(' ').nth(4)?).join(&group)));
    let folder =
        folders.find(|it| it.join("cpu.shares").exists() || it.join("cpu.weight").exists());
    let tenant = Path::new(&group).parent().and_then(Path::file_name);
    let tenant = tenant.expect("below one of its tenant").to_string_lossy();
    (folder.expect("mounted"), tenant.into_owned())
}

/// `cpu.weight` of a group; 100 where nobody chose another.
fn weight(group: &Path) -> u64 {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let number = |text: String| text.trim().parse::<u64>().expect("a number");
    let shares = read("cpu.shares").map(|text| number(text) * 100 / 1024);
    shares.unwrap_or_else(|| number(read("cpu.weight").expect("of either version")))
}

#[tokio::test]
async fn tenants_share_the_processors_whatever_their_servers_start() {
    if !is_root() {
        return;
    }
    for sandbox in ["none", "standard", "strict"] {
        let more = format!("sandbox = {sandbox:?}\nlimits = {{ cpu_weight = 200 }}");
        let world = World::with(&more).await;
        if !has_group(&world.pool, "cpu") {
            return;
        }
        // A session of its own, which the kernel would give a share of its own.
        let code = "import subprocess\nresult = subprocess.Popen(['setsid', 'sleep', '600']).pid";
        told(&world.anna, code).await;
        let workers = world.pool.workers().await;
        let mut groups = std::collections::HashMap::new();
        for worker in &workers {
            let tenant = worker["tenant"].as_str().expect("a name");
            for pid in worker["processes"].as_array().expect("a list") {
                let (group, of_tenant) = processor_group(pid.as_u64().expect("a number"));
                assert!(of_tenant.ends_with(&format!("-{tenant}")), "{of_tenant}");
                assert_eq!(weight(&group), 200, "within its tenant");
                let parent = group.parent().expect("a tenant's").to_owned();
                groups.entry(tenant).or_insert_with(Vec::new).push(parent);
            }
        }
        assert!(
            groups["anna"].len() >= 2,
            "what it started counts: {groups:?}"
        );
        assert_ne!(groups["anna"][0], groups["bob"][0]);
        assert_eq!(weight(&groups["bob"][0]), 100, "as every tenant");
        let code = "import time\nbegan = time.monotonic()\nwhile time.monotonic() - began < 2: pass\nresult = 1";
        told(&world.anna, code).await;
        eventually("a tenant that is busy goes behind", async || {
            told(&world.bob, "result = 1").await;
            weight(&groups["anna"][0]) == 11 || weight(&groups["anna"][0]) == 10
        })
        .await;
        assert_eq!(weight(&groups["bob"][0]), 100);
        let pid = world.pool.pid();
        world.pool.signal(nix::sys::signal::Signal::SIGKILL);
        eventually("its guardian removes what it leaves", async || {
            groups_of(pid).is_empty()
        })
        .await;
    }
}
