//! Copies of the process have a process of their own here: while one lives it holds every file that is open, and
//! so the locks of other tests.

use lanrage::sys::in_a_copy;

#[test]
fn a_copy_tells_how_it_ended_and_leaves_nothing_behind() {
    let mut touched = 0;
    assert_eq!(in_a_copy(|| false).unwrap(), Some(false));
    let touch = || {
        touched += 1;
        touched == 1
    };
    assert_eq!(in_a_copy(touch).unwrap(), Some(true));
    assert_eq!(touched, 0);
    assert_eq!(in_a_copy(|| panic!("as it should")).unwrap(), None);
    assert_eq!(in_a_copy(|| std::process::abort()).unwrap(), None);
}
