//! Requests that are as they should be.

use crate::client::{Client, ask};
use crate::house::House;

#[test]
fn requests_are_answered_on_one_connection() {
    let house = House::start();
    let mut client = Client::connect(house.address);
    for number in 0..100 {
        let answer = client.get(&format!("/echo/{number}?q={number}"));
        assert_eq!(answer.status, 200);
        assert!(answer.text().starts_with(&format!("GET /echo/{number} q={number} 0 Ip(127.0.0.1) true")));
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        assert_eq!(answer.header("Server"), Some("lanrage"));
        assert_eq!(answer.header("Connection"), None);
    }
    let answer = ask(&house, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    assert!(answer.text().starts_with("POST /a  5 "), "{}", answer.text());
}
