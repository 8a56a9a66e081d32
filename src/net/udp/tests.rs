use super::*;

#[test]
fn a_port_in_use_is_explained() {
    let first = RelaySocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = RelaySocket::bind(first.address()).map(drop).unwrap_err().to_string();
    assert!(error.contains("already in use") && error.contains("--relay"), "{error}");
    let any = RelaySocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    assert_ne!(any.address().port(), 0);
}
