//! Tables and processes as the kernel writes them.

use std::cell::Cell;

use tokio::time::timeout;

use super::*;

const HEADING: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const OWN: u32 = 1337;

fn socket(state: &str, uid: u32, inode: u32) -> String {
    format!(
        "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5}        0 {inode} 1 0\n"
    )
}

fn found(lines: &[String]) -> bool {
    has_foreign_socket(format!("{HEADING}{}", lines.concat()).as_bytes(), OWN).expect("readable")
}

#[test]
fn an_application_is_there_while_it_listens_or_has_a_connection_in_any_state() {
    assert!(found(&[socket("0A", 1000, 7)]));
    // SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
    for state in ["02", "04", "05", "08", "09", "0B"] {
        assert!(found(&[socket(state, 1000, 7)]), "{state}");
    }
    assert!(found(&[socket("0A", OWN, 6), socket("01", 0, 7)]));
}

#[test]
fn what_is_over_or_the_proxys_own_or_nobodys_is_no_application() {
    assert!(!found(&[]));
    assert!(!found(&[socket("0A", OWN, 6), socket("01", OWN, 7)]));
    // TIME_WAIT, a connection that was closed by its owner and one that was not accepted yet.
    assert!(!found(&[socket("06", 1000, 8), socket("05", 0, 0), socket("01", 0, 0)]));
    assert!(!found(&["garbage\n".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn an_application_that_ends_is_noticed_and_an_unreadable_table_is_no_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("tcp");
    fs::write(&table, format!("{HEADING}{}", socket("0A", 1000, 7))).expect("written");
    let application = Application {
        tables: vec![table.clone(), folder.path().join("absent")],
        own_uid: OWN,
    };
    assert!(timeout(PROCESS_INTERVAL, application.gone()).await.is_err());
    fs::write(&table, HEADING).expect("written");
    let began = Instant::now();
    application.gone().await;
    assert_eq!(began.elapsed(), ABSENCE);
    let unreadable = Application {
        tables: vec![folder.path().to_owned()],
        own_uid: OWN,
    };
    assert!(!unreadable.is_gone());
}

/// Without it for most of the time, as a worker that sends a line now and then.
#[tokio::test(start_paused = true)]
async fn an_application_that_has_a_socket_now_and_then_is_not_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("tcp");
    let application = Application {
        tables: vec![table.clone()],
        own_uid: OWN,
    };
    let calls = async {
        for _ in 0..10 {
            fs::write(&table, format!("{HEADING}{}", socket("02", 1000, 7))).expect("written");
            sleep(LOOK_INTERVAL * 2).await;
            fs::write(&table, HEADING).expect("written");
            sleep(ABSENCE - LOOK_INTERVAL * 3).await;
        }
        Instant::now()
    };
    let gone = async {
        application.gone().await;
        Instant::now()
    };
    let (last_call, gone) = tokio::join!(calls, gone);
    assert!(gone > last_call, "{:?} early", last_call - gone);
}

#[test]
fn others_are_all_but_the_first_process_this_one_and_its_children() {
    let proc = tempfile::tempdir().expect("a folder");
    let process = |pid: u32, stat: &str| {
        let folder = proc.path().join(pid.to_string());
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("stat"), stat).expect("written");
    };
    fs::create_dir(proc.path().join("net")).expect("a folder");
    process(1, "1 (pause) S 0 1");
    process(7, "7 (tsunagi-proxy) S 0 7");
    process(8, "8 (child) S 7 7");
    process(9, "9 (gone) Z 1 9");
    process(11, "11 (tsunagi-proxy) S 1 11");
    assert!(!has_others(proc.path(), 7).expect("readable"));
    process(10, "10 (a) b) S) R 0 10");
    assert!(has_others(proc.path(), 7).expect("readable"));
    process(10, "10 (tsunagi-proxy-x) S 0 10");
    assert!(has_others(proc.path(), 7).expect("readable"));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_before_somebody_came_and_a_short_gap_is_no_end() {
    let look = Cell::new(0);
    let mut seen = vec![false, false, false, true, false, false, false, false, true, true];
    seen.resize(seen.len() + 5, false);
    let others = || {
        look.set(look.get() + 1);
        Ok(*seen.get(look.get() - 1).expect("it has ended by then"))
    };
    watch(others).await;
    assert_eq!(look.get(), seen.len());
}
