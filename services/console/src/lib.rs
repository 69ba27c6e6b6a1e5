//! The operator's console service and its telnet front.
