//! From the first release to this one, as opkg and procd do it.

use crate::harness::daemon::binary;
use crate::harness::game::{Game, PROGRAM, first_release};
use crate::router::enabled;
use crate::service::{install, router, start};
use crate::shipped;
use std::net::{TcpListener, UdpSocket};

#[test]
#[ignore = "needs the program of the first release"]
fn people_play_on_while_the_package_is_upgraded() {
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = enabled(&[("main", "http", &http.to_string()), ("main", "relay", &relay.to_string())]);
    let mut router = router();
    let first = first_release();
    install(&router, &first.join(PROGRAM));
    router.script = first.join("openwrt/lanrage/files/lanrage.init");
    let mut old = start(&router, &router.run("start", &config));
    let mut game = Game::start(http, relay);

    // The package's files are replaced, then its script is told to start what runs already.
    let mut new = None;
    let course = game.go_on(|| {
        install(&router, &binary());
        router.script = shipped("lanrage/files/lanrage.init");
        let run = router.act("start");
        // Why procd ends the old one: it remembers the hashes of these.
        assert!(run.param("file").unwrap().contains(&router.text_path("lanrage")), "{run:?}");
        assert!(old.terminate().0.success());
        new = Some(start(&router, &run));
    });
    course.assert_good();
    game.assert_kept(http);
    assert!(new.unwrap().terminate().0.success());
}
