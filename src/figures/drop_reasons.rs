// Why a datagram, or a packet within one, went nowhere: a row each, with its name, its word in `/metrics` and `/status`, and
// what it means in English and German. `figures.rs` makes the type of it, and `build.rs` the German of the owner's page.
drop_reasons! {
    Unknown "unknown",
        "It is neither STUN nor WireGuard.",
        "Es ist weder STUN noch WireGuard.";
    WrongPort "wrong_port",
        "WireGuard on the port that is for STUN alone.",
        "WireGuard auf dem Port, der nur für STUN ist.";
    NoMember "no_member",
        "No member has the key that its mac1 was made with.",
        "Kein Mitglied hat den Schlüssel, für den es gemacht ist.";
    HandshakeLimit "handshake_limit",
        "Its source, or all unknown sources together, have had their share of handshakes.",
        "Der Absender, oder alle unbekannten zusammen, hatten ihren Anteil an Handshakes.";
    NoAddress "no_address",
        "Nobody knows where its recipient is.",
        "Niemand weiß, wo der Empfänger ist.";
    IndexClash "index_clash",
        "Its index is in use there: the sender's retry will have another one.",
        "Sein Index ist dort schon vergeben; der nächste Versuch hat einen anderen.";
    Duplicate "duplicate",
        "The same initiation was forwarded before.",
        "Derselbe Handshake wurde schon weitergeleitet.";
    Paced "paced",
        "Its recipient has as many initiations as its kernel allows us.",
        "Der Empfänger hat gerade so viele Handshakes, wie sein Kernel nimmt.";
    NoPending "no_pending",
        "It answers no initiation that was forwarded to where it comes from.",
        "Es beantwortet keinen Handshake, der dorthin weitergeleitet wurde.";
    NoFlow "no_flow",
        "It belongs to no flow of its source.",
        "Es gehört zu keiner Verbindung seines Absenders.";
    Unproven "unproven",
        "Its recipient's address is unproven and has received as much as came from there.",
        "Die Adresse des Empfängers ist unbestätigt und hat so viel bekommen, wie von dort kam.";
    TableFull "table_full",
        "A table is full.",
        "Eine Tabelle ist voll.";
    DataLimit "data_limit",
        "Its source, sender or party has had its share of bytes.",
        "Absender oder Party haben ihren Anteil an Bytes gehabt.";
    HubMalformed "hub_malformed",
        "The hub could not make sense of it.",
        "Der Hub konnte es nicht lesen.";
    HubUnknownPeer "hub_unknown_peer",
        "It is for the hub, from somebody who is no member.",
        "Es ist für den Hub, von jemandem, der kein Mitglied ist.";
    HubForged "hub_forged",
        "It is for the hub and does not prove what it says.",
        "Es ist für den Hub und beweist nicht, was es sagt.";
    HubReplayed "hub_replayed",
        "The hub has received it before.",
        "Der Hub hat es schon bekommen.";
    HubExpired "hub_expired",
        "It is for a hub session that is over.",
        "Es gehört zu einer Sitzung des Hubs, die vorbei ist.";
    HubLimit "hub_limit",
        "The hub takes no more handshakes from its source now.",
        "Der Hub nimmt von dort gerade keine Handshakes mehr.";
    HubUnconfirmed "hub_unconfirmed",
        "A member's handshake with the hub, again, whose answers its app does not take: they don't arrive, or it \
         has a pre-shared key for the hub.",
        "Ein Handshake eines Mitglieds mit dem Hub, noch einmal: Die Antworten kommen bei seiner App nicht an, \
         oder sie hat einen Pre-shared Key.";
    InnerSource "inner_source",
        "Its inner source address is not the member's.",
        "Die innere Absenderadresse ist nicht die des Mitglieds.";
    InnerDestination "inner_destination",
        "Its inner destination is nobody's.",
        "Die innere Zieladresse gehört niemandem.";
    OtherParty "other_party",
        "Its inner destination is in no party of its sender.",
        "Die innere Zieladresse ist in keiner Party des Absenders.";
    NoSession "no_session",
        "There is no hub session with its recipient.",
        "Mit dem Empfänger gibt es keine Sitzung am Hub.";
    BroadcastLimit "broadcast_limit",
        "A broadcast above its sender's or its party's share.",
        "Ein Broadcast über den Anteil von Absender oder Party hinaus.";
    StunMalformed "stun_malformed",
        "A STUN message that is no valid Binding request.",
        "Eine STUN-Nachricht, die keine gültige Anfrage ist.";
    StunLimit "stun_limit",
        "STUN above its source's share.",
        "STUN über den Anteil des Absenders hinaus.";
    LocalSource "local_source",
        "This machine itself sent it under another address than the hub's, or it is no IPv4; or it came to the \
         relay out of the virtual LAN.",
        "Dieses Gerät hat es unter einer anderen Adresse als der des Hubs geschickt, oder es kam aus dem \
         virtuellen LAN zum Relay.";
    LocalRefused "local_refused",
        "This machine did not take it: its interface is down or gone.",
        "Dieses Gerät hat es nicht angenommen: Die Schnittstelle ist aus oder weg.";
    SocketFull "socket_full",
        "The socket's buffer and the one before it were full.",
        "Der Puffer des Sockets war voll.";
    NoRoute "no_route",
        "There is no route to its destination, or nobody at the end of it.",
        "Es gibt keinen Weg zum Ziel, oder am Ende ist niemand.";
    SocketRefused "socket_refused",
        "The kernel refused to send it: a firewall, or it is too long.",
        "Der Kernel wollte es nicht senden: eine Firewall, oder es ist zu lang.";
    Truncated "truncated",
        "It was longer than the room for it.",
        "Es war länger als der Platz dafür.";
}
