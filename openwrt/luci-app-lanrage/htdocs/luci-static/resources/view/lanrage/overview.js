'use strict';
'require view';
'require poll';
'require ui';
'require uci';
'require dom';
'require lanrage.daemon as daemon';
'require lanrage.dialogs as dialogs';
'require lanrage.drops as drops';

// Names and ids come from strangers. LuCI takes a text for HTML where it is given alone, so children are always arrays
// here; and what is looked up by an id is in a Map, as every object has a `constructor` and a `__proto__`.

const { fill } = daemon;
/* seconds */
const INTERVAL = 5;
/* Rounds between two questions to an agent that is not there. */
const PATIENCE = 12;

const TROUBLES = new Map([
	['endpoint_unset', [_('It is not known at which address friends reach this router from outside.'), _('Enter it under Settings: links and files have it in them.')]],
	['endpoint_private', [_("The address for friends can't be reached from the internet."), _("Enter the address that the internet sees, and forward the relay's UDP port to this router.")]],
	['not_reached', [_('Nobody from the internet has reached this router since the daemon was started.'), _("If friends can't connect, look whether the relay's UDP port is open and forwarded.")]],
	['clock_unset', [_('The clock of this router is not set.'), _('See to NTP: until then, dates are wrong and invites last as long as the router is on.')]],
	['clock_set_back', [_('The clock of this router was set back while lanrage was running.'), _("See to NTP. Who can't connect any more switches the tunnel off and on.")]],
	['space_low', [_('There is hardly any free space where the state is kept.'), _('Free some space: without any, nobody new can join.')]],
	['storage', [_('Nothing can be kept.'), _('Free some space, or see to the disk; running games are not affected.')]]
]);

const PATHS = new Map([
	['direct', _('direct')], ['direct on the LAN', _('direct on the LAN')], ['relay', _('through the relay')], ['hub', _('through the hub')]
]);

const STATES = new Map([
	['connecting', _('connecting')], ['connected', _('connected')], ['degraded', _('disturbed')], ['failed', _('not connected')],
	['cleanup', _('not connected')]
]);

const KINDS = new Map([['device', _('WireGuard app')], ['agent', _('lanrage')], ['client', _('LANrage')]]);

/* A fact about somebody, if there is one. */
function fact(text) {
	return text ? [E('span', {}, [text])] : [];
}

function name(text) {
	return E('strong', {}, [E('bdi', {}, [text])]);
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	/* What to say of devices that were added here, once they have come. */
	waiting: new Map(),
	/* Rounds until the agent is asked again. */
	quiet: 0,
	/* Who is about to be removed, by party and peer, with what stops that. */
	leaving: new Map(),
	/* How long that can be undone, in milliseconds. */
	pause: 5000,
	/* What was shown last. */
	shown: null,

	load: function() {
		return Promise.all([this.fetch(), uci.load('lanrage').catch(() => null)]).then(([state]) => state);
	},

	/* What there is to show, by one question to the daemon and one to the agent. It never fails: why there is nothing is part of it. */
	fetch: function() {
		const overview = daemon.ask(['overview', '--json']).catch((error) => ({ failure: error.message }));

		return Promise.all([overview, this.fetchAgent()]).then(([overview, agent]) => ({ overview, agent }));
	},

	fetchAgent: function() {
		if (this.quiet-- > 0)
			return Promise.resolve(null);

		return daemon.ask(['peers', '--json']).then((agent) => {
			this.quiet = 0;

			return agent;
		}, () => {
			this.quiet = PATIENCE;

			return null;
		});
	},

	refresh: function() {
		return this.fetch().then((state) => {
			const place = document.getElementById('lanrage-overview');

			this.greet(state.overview.parties || []);
			this.redraw(place, state);
		});
	},

	redraw: function(place, state) {
		if (!place)
			return;

		const key = (document.activeElement || place).getAttribute('data-key');

		dom.content(place, this.show(state));
		/* Who works by keyboard stays where they were. */
		if (key)
			for (const button of place.querySelectorAll('button'))
				if (button.getAttribute('data-key') === key)
					button.focus();
	},

	greet: function(parties) {
		for (const { members } of parties)
			for (const member of members)
				if (member.is_online && this.waiting.has(member.peer_id)) {
					dom.content(this.waiting.get(member.peer_id), [daemon.badge('on', _('Connected'))]);
					this.waiting.delete(member.peer_id);
				}
	},

	button: function(label, kind, key, click) {
		return E('button', {
			'class': 'btn cbi-button ' + kind, 'data-key': label + ' ' + key,
			'disabled': L.hasViewPermission() ? null : '', 'click': click
		}, [label]);
	},

	/* A button that asks first. */
	asking: function(label, question, key, words, names) {
		return this.button(label, 'cbi-button-negative', key, () => dialogs.confirm(question, label, [], () =>
			daemon.ask(words, names).then(() => this.refresh())));
	},

	/* Removes somebody a little later, so that it can be undone. */
	soon: function(key, work) {
		const redraw = () => this.redraw(document.getElementById('lanrage-overview'), this.shown);
		const timer = setTimeout(() => {
			this.leaving.delete(key);
			Promise.resolve().then(work).catch((error) => ui.addNotification(null, [E('p', {}, [error.message])], 'danger')).then(() => this.refresh());
		}, this.pause);

		this.leaving.set(key, () => {
			clearTimeout(timer);
			this.leaving.delete(key);
			redraw();
		});
		redraw();

		return Promise.resolve();
	},

	show: function({ overview, agent }) {
		this.shown = { overview, agent };
		if (overview.failure != null)
			return [
				E('p', {}, [daemon.badge('off', _('not running'))]),
				E('div', { 'class': 'alert-message warning' }, [
					E('p', {}, [_('lanrage does not answer. Is it enabled under Settings?')]),
					E('p', {}, [overview.failure])
				])
			].concat(this.showAgent(agent));

		return [this.showStatus(overview)].concat(
			overview.trouble.map((trouble) => this.showTrouble(trouble)),
			[E('div', { 'class': 'lanrage-actions' }, [
				this.button(_('New party'), 'cbi-button-add', '', () => dialogs.createParty(() => this.refresh())),
				this.button(_('Open its own pages'), 'cbi-button-action', '', ui.createHandlerFn(this, 'openPages', overview))
			])],
			overview.parties.length ? [] : [E('p', {}, [_('There are no parties yet.')])],
			overview.parties.map((party) => this.showParty(overview, party)),
			this.showAgent(agent));
	},

	showStatus: function(overview) {
		const reached = overview.reached_from_outside;

		return E('div', { 'class': 'cbi-section' }, [
			E('p', { 'class': 'lanrage-facts' }, [
				daemon.badge('on', _('running')), E('span', {}, ['lanrage ' + overview.version]),
				E('span', {}, [fill(_('for {span}'), { span: daemon.span(overview.uptime) })])
			]),
			E('p', {}, [_('Friends use'), ' ', overview.endpoint ? E('code', {}, [overview.endpoint]) : E('em', {}, [_('nothing yet')])]),
			E('p', {}, [reached
				? fill(_('Reached from the internet {when}.'), { when: daemon.ago(overview.now - reached) })
				: _('Never reached from the internet so far.')])
		].concat(this.showDrops(overview.drops)));
	},

	showDrops: function(all) {
		return all.map(({ reason, text, packets }) => E('p', {}, [E('small', {}, [
			fill(_('Dropped packets: {packets}. {why}'), { packets, why: drops.words.get(reason) || text })
		])]));
	},

	showTrouble: function(trouble) {
		const [text, todo] = TROUBLES.get(trouble.what) || [trouble.text, trouble.do];

		return E('div', { 'class': 'alert-message warning' }, [E('p', {}, [E('strong', {}, [text])]), E('p', {}, [todo])]);
	},

	/* The daemon's own pages, by a link that is good once. */
	openPages: function(overview) {
		return daemon.ask(['ui', '--json']).then((answer) => {
			window.open(answer.url || this.place() + '/ui/#' + answer.setup, '_blank', 'noopener');
		}).catch((error) => {
			ui.addNotification(null, E('p', {}, [error.message]), 'danger');
		});
	},

	/* Where the daemon's pages are, by the name that this page came by. */
	place: function() {
		const port = /:(\d+)$/.exec(uci.get('lanrage', 'main', 'http') || ':8667');

		return 'http://' + window.location.hostname + ':' + (port ? port[1] : 8667);
	},

	showParty: function(overview, party) {
		const id = party.party_id;
		const { now } = overview;
		const refresh = () => this.refresh();
		const online = party.members.filter((member) => member.is_online).length;
		const open = party.invites.filter((invite) => invite.uses_left > 0 && invite.expires_at > now);
		const list = (rows) => E('ul', {}, rows);

		return E('div', { 'class': 'cbi-section' }, [
			E('h3', {}, [E('bdi', {}, [party.name])]),
			E('p', { 'class': 'lanrage-facts' }, [
				E('span', {}, [fill(_('Online: {online} of {all}'), { online, all: party.members.length })]),
				E('span', {}, [daemon.access(party.access)])
			].concat(fact(party.ends_at && fill(_('ends in {span}'), { span: daemon.span(party.ends_at - now) })))),
			E('div', { 'class': 'lanrage-actions' }, [
				this.button(_('Add a device'), 'cbi-button-add', id, () => dialogs.addDevice(party, (peer, node) => this.waiting.set(peer, node), refresh)),
				this.button(_('Invite'), 'cbi-button-add', id, () => dialogs.invite(party, overview.http || this.place(), refresh)),
				this.button(_('Settings'), 'cbi-button-edit', id, () => dialogs.settings(party, refresh)),
				this.asking(_('End party'), fill(_('This ends the party for everybody: {party}'), { party: daemon.within(party.name) }), id, ['party', 'delete', '--json'], [id])
			]),
			party.members.length ? list(party.members.map((member) => this.showMember(now, party, open, member))) : E('p', {}, [_('Nobody is in it yet.')])
		].concat(
			open.length ? [E('h4', {}, [_('Invites')]), list(open.map((invite) => this.showInvite(now, party, invite)))] : [],
			party.bans.length ? [E('h4', {}, [_('Banned')]), list(party.bans.map((ban) => this.showBan(party, ban)))] : []));
	},

	showMember: function(now, party, open, member) {
		const id = party.party_id;
		const peer = member.peer_id;
		const key = id + ' ' + peer;
		const who = { who: daemon.within(member.name) + ' (' + peer + ')' };
		const came = open.some((invite) => invite.invite_id === member.invite_id);
		const remove = (label, question, words) => {
			const box = came ? dialogs.box(_('Revoke the invite by which they came, too')) : null;
			const work = () => daemon.ask(words, [id, peer]).then(() =>
				box && box.input.checked ? daemon.ask(['invite', 'revoke', '--json'], [id, member.invite_id]) : null);

			return this.button(label, 'cbi-button-negative', key, () =>
				dialogs.confirm(fill(question, who), label, box ? [box.node] : [], () => this.soon(key, work)));
		};

		return E('li', { 'class': 'lanrage-row' }, [
			E('div', {}, [
				name(member.name), ' ', member.is_online ? daemon.badge('on', _('online')) : daemon.badge('idle', _('offline')),
				E('div', { 'class': 'lanrage-facts' }, [E('code', {}, [member.virtual_ip])].concat(
					fact(peer === party.host_id ? _('host') : KINDS.get(member.kind) || member.kind),
					fact(member.is_online && member.path && (PATHS.get(member.path) || member.path)),
					fact(member.is_online && member.rtt_ms != null && member.rtt_ms + ' ms'),
					fact(!member.is_online && (member.last_handshake ? daemon.ago(now - member.last_handshake) : _('never connected'))),
					fact(fill(_('sent {sent}, received {received}'), { sent: daemon.size(member.received), received: daemon.size(member.sent) }))))
			].concat(this.showDrops(member.drops))),
			this.leaving.has(key) ? E('div', { 'class': 'lanrage-actions', 'role': 'status' }, [
				E('span', {}, [_('Will be removed in a few seconds, if this page stays open.')]),
				this.button(_('Undo'), 'cbi-button-action', key, () => this.leaving.get(key)())
			]) : E('div', { 'class': 'lanrage-actions' }, [
				remove(_('Kick'), _('This removes from the party: {who}'), ['peer', 'kick', '--json']),
				remove(_('Ban'), _('This removes from the party, for good: {who}'), ['peer', 'ban', '--json'])
			])
		]);
	},

	showInvite: function(now, party, invite) {
		const words = { left: invite.uses_left, uses: invite.uses, span: daemon.span(invite.expires_at - now) };

		return E('li', { 'class': 'lanrage-row' }, [
			E('span', {}, [fill(invite.kind === 'code' ? _('Code: {left} of {uses} left, ends in {span}') : _('Link: {left} of {uses} left, ends in {span}'), words)]),
			this.asking(_('Revoke'), _('Nobody can come by it any more. Who came by it stays.'), party.party_id + ' ' + invite.invite_id,
				['invite', 'revoke', '--json'], [party.party_id, invite.invite_id])
		]);
	},

	showBan: function(party, { peer_id: peer, public_key: key }) {
		const who = peer || key;

		return E('li', { 'class': 'lanrage-row' }, [
			E('code', {}, [who]),
			this.asking(_('Lift'), fill(_('This lets in again: {who}'), { who }), party.party_id + ' ' + who,
				['peer', 'unban', '--json'].concat(peer ? [] : ['--key', key]), [party.party_id].concat(peer ? [peer] : []))
		]);
	},

	/* What this router itself takes part in. */
	showAgent: function(agent) {
		if (!agent)
			return [];

		return [E('div', { 'class': 'cbi-section' }, [
			E('h3', {}, [_('This router as a player')]),
			E('p', { 'class': 'lanrage-facts' }, [name(agent.party || agent.party_id), E('code', {}, [agent.ip || '-']), E('span', {}, [agent.server])]),
			agent.local ? E('div', { 'class': 'alert-message warning' }, [E('p', {}, [_('The server is away; games go on, and it is asked again and again.')])]) : '',
			agent.members.length ? E('ul', {}, agent.members.map((member) => this.showPeer(member))) : E('p', {}, [_('Nobody else is in the party yet.')])
		])];
	},

	showPeer: function(member) {
		const isOn = member.state === 'connected' || member.state === 'degraded';

		return E('li', { 'class': 'lanrage-row' }, [E('div', {}, [
			name(member.name), ' ', daemon.badge(isOn ? 'on' : 'idle', STATES.get(member.state) || member.state),
			E('div', { 'class': 'lanrage-facts' }, [E('code', {}, [member.ip])].concat(
				fact(PATHS.get(member.path) || member.path),
				fact(member.rtt_us != null && (member.rtt_us / 1000).toFixed(1) + ' ms'),
				fact(member.loss_per_mille > 0 && fill(_('loss {percent} %'), { percent: member.loss_per_mille / 10 })),
				fact(fill(_('sent {sent}, received {received}'), { sent: daemon.size(member.sent), received: daemon.size(member.received) })),
				fact(member.handshake_seconds != null && fill(_('handshake {when}'), { when: daemon.ago(member.handshake_seconds) })))),
			member.why_not_direct ? E('small', {}, [fill(_('Not direct: {why}'), { why: daemon.within(member.why_not_direct) })]) : ''
		])]);
	},

	render: function(state) {
		poll.add(() => this.refresh(), INTERVAL);

		return E('div', { 'class': 'lanrage-page' }, [
			daemon.style(),
			E('h2', {}, [_('LAN parties')]),
			E('div', { 'id': 'lanrage-overview' }, this.show(state))
		]);
	}
});
