'use strict';
'require view';
'require fs';
'require poll';
'require ui';
'require dom';

// Names and ids come from strangers. LuCI takes a text for HTML where it is given alone, so children are always arrays
// here; and what is looked up by an id is in a Map, as every object has a `constructor` and a `__proto__`.

const PROGRAM = '/usr/bin/lanrage';
/* seconds */
const INTERVAL = 10;
/* With more parties than this, members are shown on request: each costs the router two commands. */
const SHOWN = 8;

/* Asks the daemon. What follows `--` is no option, whatever a peer has called itself. */
function ask(words, names) {
	const line = words.concat(['--json'], names ? ['--'].concat(names) : []);

	return fs.exec(PROGRAM, line).then(function(result) {
		if (result.code !== 0)
			throw new Error((result.stderr || '').trim() || _('lanrage ended with code') + ' ' + result.code);

		return JSON.parse(result.stdout);
	});
}

function span(seconds) {
	const units = [[86400, _('d')], [3600, _('h')], [60, _('min')]];

	for (const [size, name] of units)
		if (seconds >= size)
			return Math.floor(seconds / size) + ' ' + name;

	return Math.floor(seconds) + ' ' + _('s');
}

function size(bytes) {
	const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
	let unit = 0;

	for (; bytes >= 1024 && unit < units.length - 1; unit++)
		bytes /= 1024;

	return (unit ? bytes.toFixed(1) : bytes) + ' ' + units[unit];
}

function amount(traffic) {
	return traffic.packets + ' ' + _('packets') + ', ' + size(traffic.bytes);
}

/* The daemon's times have no zone and are UTC. */
function ago(time) {
	const seconds = (Date.now() - Date.parse(time + 'Z')) / 1000;

	return isNaN(seconds) ? '-' : span(Math.max(0, seconds)) + ' ' + _('ago');
}

function table(headings, rows, nothing) {
	const cells = (tag, line) => line.map((cell) => E(tag, { 'class': tag }, [].concat(cell)));

	return E('table', { 'class': 'table' }, [
		E('tr', { 'class': 'tr table-titles' }, cells('th', headings))
	].concat(rows.length
		? rows.map((row) => E('tr', { 'class': 'tr' }, cells('td', row)))
		: [E('tr', { 'class': 'tr placeholder' }, [E('td', { 'class': 'td' }, [nothing])])]));
}

function facts(pairs) {
	return E('table', { 'class': 'table' }, pairs.map((pair) => E('tr', { 'class': 'tr' }, [
		E('td', { 'class': 'td left', 'width': '33%' }, [pair[0]]),
		E('td', { 'class': 'td left' }, [pair[1]])
	])));
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	/* Parties whose members were asked for. */
	open: new Set(),

	load: function() {
		return this.fetch();
	},

	/* What there is to show. It never fails: why there is nothing is part of it. */
	fetch: function() {
		return Promise.all([ask(['status']), ask(['party', 'list'])]).then((answers) => {
			const [status, { parties }] = answers;
			const shown = parties.filter((party) => parties.length <= SHOWN || this.open.has(party.party_id));

			return Promise.all(shown.map((party) => this.fetchParty(party.party_id))).then((details) => {
				const byId = new Map(shown.map((party, i) => [party.party_id, details[i]]));

				return { status, parties, details: byId };
			});
		}).catch((error) => ({ failure: error.message }));
	},

	/* It may have ended since it was listed. */
	fetchParty: function(id) {
		return Promise.all([ask(['party', 'show'], [id]), ask(['peer', 'bans'], [id])]).then(
			([party, bans]) => ({ party: party.party, network: party.network, bans: bans.bans }),
			() => null);
	},

	refresh: function() {
		return this.fetch().then((state) => {
			const place = document.getElementById('lanrage-overview');

			if (place)
				dom.content(place, this.show(state));
		});
	},

	/* Asks first, then does it, then shows what has become of it. */
	confirm: function(question, action, words, names) {
		ui.showModal(_('Are you sure?'), [
			E('p', {}, [question]),
			E('div', { 'class': 'right' }, [
				E('button', { 'class': 'btn', 'click': ui.hideModal }, [_('Cancel')]),
				' ',
				E('button', {
					'class': 'btn cbi-button-negative important',
					'click': ui.createHandlerFn(this, 'perform', words, names)
				}, [action])
			])
		]);
	},

	perform: function(words, names) {
		return ask(words, names).catch((error) => {
			ui.addNotification(null, E('p', {}, [error.message]), 'danger');
		}).then(() => {
			ui.hideModal();

			return this.refresh();
		});
	},

	button: function(label, question, words, names) {
		return E('button', {
			'class': 'btn cbi-button-negative',
			'disabled': L.hasViewPermission() ? null : true,
			'click': () => this.confirm(question, label, words, names)
		}, [label]);
	},

	show: function(state) {
		if (state.failure != null)
			return [
				E('div', { 'class': 'alert-message warning' }, [
					E('p', {}, [_('lanrage does not answer. Is it enabled under Settings?')]),
					E('p', {}, [state.failure])
				])
			];

		return this.showStatus(state.status).concat(
			[E('h3', {}, [_('Parties')])],
			state.parties.length ? [] : [E('p', {}, [_('There are no parties.')])],
			...state.parties.map((party) => this.showParty(state, party)));
	},

	showStatus: function(status) {
		const { relay, traffic, store } = status;
		const drops = Object.keys((traffic || {}).drops || {})
			.map((reason) => traffic.drops[reason] + ' ' + reason.replace(/_/g, ' '));

		return [facts([
			[_('Version'), status.version],
			[_('Running for'), span(status.uptime_seconds)],
			[_('Control API'), status.http],
			[_('Relay'), relay.address + ' (UDP)'],
			[_('Key of the hub'), relay.public_key],
			[_('Virtual LAN'), status.subnet],
			[_('Parties, peers'), status.parties + ', ' + status.peers],
			[_('State'), status.state_dir + ', ' + size(store.bytes) + ', ' + store.status]
		].concat(traffic ? [
			[_('Relayed unread'), amount(traffic.blind)],
			[_('Through the hub'), amount(traffic.hub)],
			[_('Broadcast'), amount(traffic.broadcast)],
			[_('Dropped'), drops.join(', ') || _('nothing')]
		] : []))];
	},

	showParty: function(state, party) {
		const id = party.party_id;
		const title = E('h4', {}, [party.name]);
		const end = this.button(_('End party'),
			_('This ends the party for everybody:') + ' ' + party.name, ['party', 'delete'], [id]);

		if (!state.details.has(id))
			return [title, E('p', {}, [
				party.peers + ' ' + _('peers') + ' ',
				E('button', { 'class': 'btn', 'click': () => { this.open.add(id); return this.refresh(); } }, [_('Show')]),
				' ', end
			])];

		const detail = state.details.get(id);

		if (!detail)
			return [];

		const relayed = new Map((state.status.members || []).map((member) => [member.peer_id, member]));
		const addresses = new Map(Object.entries(detail.network.peers || {}));

		const members = Object.entries(detail.party.peers).map(([peer, info]) => {
			const path = relayed.get(peer);
			const shown = info.name + ' (' + peer + ')';

			return [
				info.name,
				peer === detail.party.host_id ? peer + ' (' + _('host') + ')' : peer,
				addresses.get(peer) || '-',
				path ? path.path + ', ' + span(path.handshake_seconds) + ' ' + _('ago') : '-',
				path ? size(path.from.bytes) + ' / ' + size(path.to.bytes) : '-',
				ago(info.last_seen),
				[
					this.button(_('Kick'), _('This removes from the party:') + ' ' + shown, ['peer', 'kick'], [id, peer]),
					' ',
					this.button(_('Ban'), _('This removes from the party, for good:') + ' ' + shown, ['peer', 'ban'], [id, peer])
				]
			];
		});
		const bans = detail.bans.map((ban) => [
			ban.peer_id || '-',
			ban.public_key || '-',
			ban.peer_id
				? [this.button(_('Lift'), _('This lets in again:') + ' ' + ban.peer_id, ['peer', 'unban'], [id, ban.peer_id])]
				: []
		]);

		return [
			title,
			E('p', {}, [_('Id, for friends who join:') + ' ' + id + ' ', end]),
			table([_('Name'), _('Peer'), _('Virtual address'), _('Relayed'), _('From it / to it'), _('Last seen'), ''],
				members, _('Nobody')),
			bans.length ? table([_('Banned peer'), _('Banned key'), ''], bans, '') : ''
		];
	},

	render: function(state) {
		poll.add(() => this.refresh(), INTERVAL);

		return E('div', {}, [
			E('h2', {}, [_('LAN parties')]),
			E('div', { 'id': 'lanrage-overview' }, this.show(state))
		]);
	}
});
