'use strict';
'require baseclass';

// Why packets are dropped, as the daemon has it; tests/openwrt/words.rs writes this.
return baseclass.extend({
	words: new Map([
		['unknown', _('It is neither STUN nor WireGuard.')],
		['wrong_port', _('WireGuard on the port that is for STUN alone.')],
		['no_member', _('No member has the key that its mac1 was made with.')],
		['handshake_limit', _('Its source, or all unknown sources together, have had their share of handshakes.')],
		['no_address', _('Nobody knows where its recipient is.')],
		['index_clash', _('Its index is in use there: the sender\'s retry will have another one.')],
		['duplicate', _('The same initiation was forwarded before.')],
		['paced', _('Its recipient has as many initiations as its kernel allows us.')],
		['no_pending', _('It answers no initiation that was forwarded to where it comes from.')],
		['no_flow', _('It belongs to no flow of its source.')],
		['unproven', _('Its recipient\'s address is unproven and has received as much as came from there.')],
		['table_full', _('A table is full.')],
		['data_limit', _('Its source, sender or party has had its share of bytes.')],
		['hub_malformed', _('The hub could not make sense of it.')],
		['hub_unknown_peer', _('It is for the hub, from somebody who is no member.')],
		['hub_forged', _('It is for the hub and does not prove what it says.')],
		['hub_replayed', _('The hub has received it before.')],
		['hub_expired', _('It is for a hub session that is over.')],
		['hub_limit', _('The hub takes no more handshakes from its source now.')],
		['hub_unconfirmed', _('A member\'s handshake with the hub, again, whose answers its app does not take: they don\'t arrive, or it has a pre-shared key for the hub.')],
		['inner_source', _('Its inner source address is not the member\'s.')],
		['inner_destination', _('Its inner destination is nobody\'s.')],
		['other_party', _('Its inner destination is in no party of its sender.')],
		['no_session', _('There is no hub session with its recipient.')],
		['broadcast_limit', _('A broadcast above its sender\'s or its party\'s share.')],
		['stun_malformed', _('A STUN message that is no valid Binding request.')],
		['stun_limit', _('STUN above its source\'s share.')],
		['local_source', _('This machine itself sent it under another address than the hub\'s, or it is no IPv4; or it came to the relay out of the virtual LAN.')],
		['local_refused', _('This machine did not take it: its interface is down or gone.')],
		['socket_full', _('The socket\'s buffer and the one before it were full.')],
		['no_route', _('There is no route to its destination, or nobody at the end of it.')],
		['socket_refused', _('The kernel refused to send it: a firewall, or it is too long.')],
		['truncated', _('It was longer than the room for it.')],
	])
});
