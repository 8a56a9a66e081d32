'use strict';
'require view';
'require poll';
'require dom';
'require lanrage.daemon as daemon';

// What keeps friends out, as `lanrage doctor` finds it, and what happened lately.

const { fill } = daemon;
/* seconds */
const INTERVAL = 5;

const TOPICS = new Map([
	['address', _('Address')], ['reached', _('Reached from outside')], ['clock', _('Clock')], ['disk', _('Disk')], ['daemon', _('Daemon')],
	['offloads', _('Sending in bursts')], ['name', _('DNS name')], ['firewall', _('Firewall')], ['MTU', _('Packet size')]
]);

const VERDICTS = new Map([['ok', ['on', _('good')]], ['wrong', ['off', _('wrong')]], ['unknown', ['idle', _('not known')]]]);

const EVENTS = new Map([
	['party_created', _('{party} was made')], ['party_ended', _('{party} has ended')], ['joined', _('{name} joined {party}')],
	['device_added', _('{name} was added to {party}')], ['device_removed', _('{name} was taken out of {party}')],
	['left', _('{name} left {party}')], ['kicked', _('{name} was removed from {party}')], ['banned', _('{name} was banned from {party}')],
	['invite_used', _('{name} used an invite to {party}')], ['online', _('{name} is online')],
	['first_direct', _('{name} is connected directly for the first time')], ['backup', _('A backup was given to {from}')]
]);

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load: function() {
		return Promise.all([this.examine(), this.happened()]);
	},

	/* It may take some seconds, so it is asked once and when somebody wants it. */
	examine: function() {
		return daemon.examine().catch((error) => ({ failure: error.message }));
	},

	happened: function() {
		return daemon.lines(['events', '--json']).catch(() => []);
	},

	/* Puts something new in its place on the page, if that is there. */
	fill: function(id, nodes) {
		const place = document.getElementById(id);

		if (place)
			dom.content(place, nodes);
	},

	examineAgain: function() {
		this.fill('lanrage-findings', [E('p', {}, [E('em', {}, [_('One moment')])])]);

		return this.examine().then((found) => this.fill('lanrage-findings', this.showFindings(found)));
	},

	showFindings: function(found) {
		if (found.failure != null)
			return [
				E('p', {}, [daemon.badge('off', _('not running'))]),
				E('div', { 'class': 'alert-message warning' }, [
					E('p', {}, [_('lanrage does not answer. Is it enabled under Settings?')]), E('p', {}, [found.failure])
				])
			];

		return [
			E('p', {}, [found.is_well ? _('Nothing keeps friends out, as far as this router can tell.') : _('Something is wrong; see what to do about it.')]),
			E('ul', {}, found.findings.map((finding) => this.showFinding(finding)))
		];
	},

	showFinding: function(finding) {
		const [kind, word] = VERDICTS.get(finding.verdict) || ['idle', finding.verdict];

		return E('li', { 'class': 'lanrage-row' }, [E('div', {}, [
			E('strong', {}, [TOPICS.get(finding.topic) || finding.topic]), ' ', daemon.badge(kind, word),
			E('div', { 'lang': 'en' }, [E('bdi', {}, [finding.text])]),
			finding['do'] ? E('div', { 'lang': 'en' }, [E('small', {}, [E('bdi', {}, [finding['do']])])]) : ''
		])]);
	},

	showEvents: function(events) {
		if (!events.length)
			return [E('p', {}, [_('Nothing has happened since the start.')])];

		return [E('ul', {}, events.slice().reverse().map((event) => E('li', { 'class': 'lanrage-row' }, [
			E('span', {}, [this.says(event)]),
			E('small', {}, [new Date(event.at * 1000).toLocaleString()])
		])))];
	},

	/* In the reader's language, if it is known and all that it speaks of is there. */
	says: function(event) {
		const values = {};

		for (const name of ['party', 'name', 'from'])
			if (event[name] != null)
				values[name] = daemon.within(event[name]);

		const text = EVENTS.get(event.kind);
		const isTold = text && (text.match(/\{\w+\}/g) || []).every((place) => place.slice(1, -1) in values);

		return isTold ? fill(text, values) : daemon.within(event.text);
	},

	render: function([found, events]) {
		poll.add(() => this.happened().then((events) => this.fill('lanrage-events', this.showEvents(events))), INTERVAL);

		return E('div', { 'class': 'lanrage-page' }, [
			daemon.style(),
			E('h2', {}, [_('Diagnosis')]),
			E('div', { 'class': 'cbi-section' }, [
				E('h3', {}, [_('What keeps friends out?')]),
				E('div', { 'id': 'lanrage-findings' }, this.showFindings(found)),
				E('div', { 'class': 'lanrage-actions' }, [
					E('button', { 'class': 'btn cbi-button cbi-button-action', 'click': () => this.examineAgain() }, [_('Look again')])
				])
			]),
			E('div', { 'class': 'cbi-section' }, [
				E('h3', {}, [_('What happened lately')]),
				E('div', { 'id': 'lanrage-events' }, this.showEvents(events))
			])
		]);
	}
});
