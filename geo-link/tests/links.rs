//! Links between real gateways, over real TLS on loopback.

mod common;

use std::time::Duration;

use clock::{Incarnation, Offset, Origin};
use common::{Authority, Lab, Start, fast_links, log, wait_until};
use geo_link::{GatewayEvent, InState, LinkOptions, OutState};

#[test]
fn what_is_written_here_is_read_there() {
    let lab = Lab::new(["lisbon", "madrid"]);
    let (lisbon, madrid) = (lab.start("lisbon"), lab.start("madrid"));
    lisbon.set("greeting", "olá");
    madrid.wait_for("greeting", Some("olá"));
    madrid.set("greeting", "hola");
    lisbon.wait_for("greeting", Some("hola"));
    lisbon.delete("greeting");
    madrid.wait_for("greeting", None);
    let out = lisbon.out("madrid");
    assert!(out.up && out.last_error.is_none(), "{out:?}");
    wait_until("the clock was measured", || lisbon.out("madrid").clock_offset_seconds.is_some());
}

#[test]
fn regions_that_start_together_are_complete_soon() {
    let lab = Lab::new(["oslo", "bergen", "turku"]);
    let regions = [lab.start("oslo"), lab.start("bergen"), lab.start("turku")];
    for region in &regions {
        region.wait_complete();
        wait_until("the event came", || region.events() == [GatewayEvent::Complete]);
    }
    regions[2].set("key", "value");
    regions[0].wait_for("key", Some("value"));
    regions[1].wait_for("key", Some("value"));
}

#[test]
fn a_cut_that_the_log_outlasts_is_resumed_from_it() {
    let lab = Lab::new(["quito", "lima"]);
    let (quito, lima) = (lab.start("quito"), lab.start("lima"));
    lima.wait_complete();
    quito.set("before", "1");
    lima.wait_for("before", Some("1"));
    lab.cable("quito", "lima").cut();
    wait_until("the cut is noticed", || !quito.out("lima").up);
    for number in 0..100 {
        quito.set(&format!("during:{number}"), "2");
    }
    let applied = lima.incoming("quito").applied;
    lab.cable("quito", "lima").mend();
    lima.wait_for("during:99", Some("2"));
    wait_until("all arrived", || lima.incoming("quito").applied == applied + 100);
    let resumed = log()
        .lines()
        .rfind(|line| line.contains("to=\"lima\"") && line.contains("what the peer lacks"))
        .map(str::to_owned);
    assert!(resumed.as_ref().is_some_and(|line| line.contains("slots=0")), "{resumed:?}");
}

#[test]
fn a_cut_that_outlasts_the_log_is_resumed_by_a_scan() {
    let lab = Lab::new(["cairo", "tunis"]);
    let cairo = lab.start_with("cairo", Start { log_records: 32, ..Start::default() });
    let tunis = lab.start("tunis");
    tunis.wait_complete();
    cairo.set("before", "1");
    tunis.wait_for("before", Some("1"));
    lab.cable("cairo", "tunis").cut();
    wait_until("the cut is noticed", || !cairo.out("tunis").up);
    for number in 0..1_000 {
        cairo.set(&format!("during:{number}"), "2");
    }
    cairo.delete("before");
    lab.cable("cairo", "tunis").mend();
    for number in 0..1_000 {
        tunis.wait_for(&format!("during:{number}"), Some("2"));
    }
    tunis.wait_for("before", None);
}

#[test]
fn lag_grows_while_a_link_is_down_and_falls_when_it_is_back() {
    let lab = Lab::new(["delhi", "agra"]);
    let (delhi, agra) = (lab.start("delhi"), lab.start("agra"));
    agra.wait_complete();
    let lag = || agra.gateway.region().lag(lab.id("delhi"), agra.now());
    wait_until("the lag is small", || lag() < Duration::from_millis(200));
    lab.cable("delhi", "agra").cut();
    wait_until("the lag has grown", || lag() > Duration::from_millis(600));
    lab.cable("delhi", "agra").mend();
    wait_until("the lag is small again", || lag() < Duration::from_millis(200));
    drop(delhi);
}

#[test]
fn a_region_that_restarts_empty_is_refilled() {
    let lab = Lab::new(["kyoto", "osaka", "kobe"]);
    let (kyoto, osaka, kobe) = (lab.start("kyoto"), lab.start("osaka"), lab.start("kobe"));
    kyoto.set("from:kyoto", "1");
    osaka.set("from:osaka", "2");
    kobe.set("from:kobe", "3");
    osaka.wait_for("from:kyoto", Some("1"));
    kobe.wait_for("from:kyoto", Some("1"));
    kyoto.wait_for("from:osaka", Some("2"));
    osaka.wait_complete();
    kobe.wait_complete();
    drop(kyoto);
    osaka.set("meanwhile", "4");
    let kyoto = lab.start_with("kyoto", Start { life: 1, ..Start::default() });
    assert_eq!(kyoto.get("from:kyoto"), None);
    kyoto.wait_complete();
    for (key, value) in [("from:kyoto", "1"), ("from:osaka", "2"), ("from:kobe", "3"), ("meanwhile", "4")] {
        assert_eq!(kyoto.get(key).as_deref(), Some(value), "complete, but without {key}");
    }
    kyoto.set("from:kyoto", "5");
    kobe.wait_for("from:kyoto", Some("5"));
}

#[test]
fn a_region_alone_is_complete_at_once() {
    let lab = Lab::new(["pitcairn"]);
    assert!(lab.start("pitcairn").gateway.region().is_complete());
}

#[test]
fn a_second_process_in_one_life_is_told_that_it_is_superseded() {
    let lab = Lab::new(["rome", "milan"]);
    let (rome, milan) = (lab.start("rome"), lab.start("milan"));
    milan.wait_complete();
    let twin = lab.start("rome");
    let superseded = GatewayEvent::Superseded { by: Origin::new(lab.id("rome"), Incarnation::FIRST) };
    wait_until("the twin is told", || twin.events().contains(&superseded));
    rome.set("key", "value");
    milan.wait_for("key", Some("value"));
    assert!(!rome.events().contains(&superseded));
}

#[test]
fn a_certificate_of_another_authority_is_turned_away_and_said_so() {
    let lab = Lab::new(["paris", "lyon"]);
    let stranger = Authority::new().issue("lyon");
    let paris = lab.start("paris");
    let lyon = lab.start_with("lyon", Start { tls: Some(stranger), ..Start::default() });
    wait_until("both ends know why", || {
        let errors = (paris.out("lyon").last_error, lyon.out("paris").last_error);
        errors.0.is_some_and(|error| error.contains("certificate"))
            && errors.1.is_some_and(|error| error.contains("certificate"))
    });
    wait_until("it is in the log", || log().contains("incoming link is turned away"));
    assert!(!paris.incoming("lyon").up && !lyon.incoming("paris").up);
}

#[test]
fn a_peer_that_is_not_there_yet_is_not_said_to_have_a_bad_certificate() {
    let lab = Lab::new(["ghent", "liege"]);
    let ghent = lab.start("ghent");
    let why = || ghent.out("liege").last_error;
    wait_until("nobody answers", || why().is_some());
    assert!(why().is_some_and(|error| error.starts_with("connection lost")), "{:?}", why());
    let liege = lab.start("liege");
    wait_until("the link is up", || ghent.out("liege").up);
    assert_eq!(why(), None);
    drop(liege);
}

#[test]
fn a_region_that_shuts_down_in_good_order_is_no_warning() {
    let lab = Lab::new(["basel", "bern"]);
    let (basel, bern) = (lab.start("basel"), lab.start("bern"));
    wait_until("both links are up", || {
        basel.out("bern").up && basel.incoming("bern").up && bern.out("basel").up && bern.incoming("basel").up
    });
    let before = log().len();
    bern.gateway.shutdown();
    let is_ours = |line: &&str| line.contains("basel") && line.contains("bern");
    let said = || log()[before..].lines().filter(is_ours).map(str::to_owned).collect::<Vec<_>>();
    let closed = |link: &str| said().iter().any(|line| line.contains(link) && line.contains("link is closed"));
    wait_until("basel says that the links are closed", || {
        closed("from=\"basel\" to=\"bern\"") && closed("from=\"bern\" to=\"basel\"")
    });
    assert!(!said().iter().any(|line| line.contains("WARN")), "{:#?}", said());
}

#[test]
fn a_peer_is_not_believed_to_be_another_region() {
    let lab = Lab::new(["berlin", "bonn", "trier"]);
    let berlin = lab.start("berlin");
    // What answers on the way to bonn is trier; its certificate is good, but it is not bonn's.
    let trier = lab.start("trier");
    lab.cable("berlin", "bonn").lead_to(trier.gateway.local_addr());
    wait_until("the certificate is refused", || {
        berlin.out("bonn").last_error.is_some_and(|error| error.contains("certificate"))
    });
    wait_until("the other link is up", || berlin.out("trier").up);
    assert!(!berlin.out("bonn").up);
}

#[test]
fn a_peer_that_does_not_read_harms_no_other() {
    let links = LinkOptions { timeout: Duration::from_secs(600), window_bytes: 1 << 20, ..fast_links() };
    let start = || Start { links, ..Start::default() };
    let lab = Lab::new(["perth", "darwin", "hobart"]);
    let perth = lab.start_with("perth", start());
    let (darwin, hobart) = (lab.start_with("darwin", start()), lab.start_with("hobart", start()));
    darwin.wait_complete();
    hobart.wait_complete();
    lab.cable("perth", "darwin").stall();
    let value = "x".repeat(100_000);
    for number in 0..200 {
        perth.set(&format!("large:{number}"), &value);
    }
    perth.set("last", "here");
    hobart.wait_for("last", Some("here"));
    hobart.wait_for("large:199", Some(&value));
    // It cannot hear what another can, though its connection stands.
    darwin.wait_for("last", Some("here"));
    assert!(darwin.incoming("perth").up && perth.out("darwin").up);
    // Overwritten while the peer does not read: sent once.
    for number in 0..1_000 {
        perth.set("counter", &number.to_string());
    }
    hobart.wait_for("counter", Some("999"));
    lab.cable("perth", "darwin").mend();
    darwin.wait_for("counter", Some("999"));
    darwin.wait_for("last", Some("here"));
}

#[test]
fn a_clock_too_far_ahead_is_held_and_let_go_when_the_clocks_agree() {
    let lab = Lab::new(["nome", "juneau"]);
    let ahead = Start { clock_offset: Offset::ahead(Duration::from_millis(1_500)), ..Start::default() };
    let nome = lab.start_with("nome", ahead);
    let juneau = lab.start("juneau");
    wait_until("juneau holds", || juneau.incoming("nome").state == InState::Held);
    wait_until("nome knows", || nome.out("juneau").state == OutState::Held);
    wait_until("it is in the log", || log().contains("holding a batch"));
    // The other way is untouched.
    juneau.set("from:juneau", "1");
    nome.wait_for("from:juneau", Some("1"));
    // What was stamped then is let in once our clock comes near.
    nome.set("from:nome", "2");
    let written = nome.now().wall;
    juneau.wait_for("from:nome", Some("2"));
    assert!(juneau.now().wall.after(Duration::from_millis(500)) >= written);
}

#[test]
fn what_lies_above_the_persisted_mark_is_taken_in_when_the_mark_has_moved() {
    let lab = Lab::new(["quebec", "montreal"]);
    let quebec = lab.start("quebec");
    let montreal = lab.start_with("montreal", Start { mark: quebec.now().wall, ..Start::default() });
    quebec.set("key", "value");
    wait_until("the link is up", || montreal.incoming("quebec").up);
    // Montreal waits for its mark; the way back is untouched.
    montreal.set("other", "1");
    quebec.wait_for("other", Some("1"));
    assert_eq!((montreal.get("key"), montreal.incoming("quebec").applied), (None, 0));
    montreal.set_mark(clock::Time::MAX);
    montreal.wait_for("key", Some("value"));
    assert_eq!(quebec.out("montreal").connects, 1);
}

#[test]
fn renewed_certificates_serve_new_connections_and_disturb_no_link() {
    let lab = Lab::new(["accra", "lagos"]);
    let (accra, lagos) = (lab.start("accra"), lab.start("lagos"));
    wait_until("the link is up", || accra.out("lagos").up && lagos.out("accra").up);
    let connects = accra.out("lagos").connects;
    accra.gateway.reload_tls(&lab.authority.issue("accra")).unwrap();
    assert!(accra.gateway.reload_tls(&lab.authority.issue("lagos")).is_err());
    accra.set("key", "1");
    lagos.wait_for("key", Some("1"));
    assert_eq!(accra.out("lagos").connects, connects);
    lab.cable("accra", "lagos").cut();
    wait_until("the cut is noticed", || !accra.out("lagos").up);
    lab.cable("accra", "lagos").mend();
    accra.set("key", "2");
    lagos.wait_for("key", Some("2"));
}

#[test]
fn a_large_value_crosses() {
    let lab = Lab::new(["suva", "apia"]);
    let (suva, apia) = (lab.start("suva"), lab.start("apia"));
    let value = "0123456789abcdef".repeat(1 << 20);
    suva.set("large", &value);
    suva.set("small", "1");
    apia.wait_for("small", Some("1"));
    apia.wait_for("large", Some(&value));
}
