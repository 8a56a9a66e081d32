'use strict';
'require baseclass';
'require ui';
'require lanrage.daemon as daemon';
'require lanrage.wireguard as wireguard';

// What an owner does with a party. Each dialog says by itself what went wrong, and stays open then.

const { fill } = daemon;
let count = 0;

function field(label, hint, input) {
	const id = 'lanrage-field-' + (++count);

	input.setAttribute('id', id);
	if (hint)
		input.setAttribute('aria-describedby', id + '-hint');

	return E('div', { 'class': 'cbi-value' }, [
		E('label', { 'class': 'cbi-value-title', 'for': id }, [label]),
		E('div', { 'class': 'cbi-value-field' }, [input].concat(hint
			? [E('div', { 'class': 'cbi-value-description', 'id': id + '-hint' }, [hint])] : []))
	]);
}

function input(attributes) {
	return E('input', Object.assign({ 'type': 'text', 'class': 'cbi-input-text', 'autocomplete': 'off' }, attributes));
}

function box(label) {
	const input = E('input', { 'type': 'checkbox' });

	return { input, node: E('p', {}, [E('label', {}, [input, ' ', label])]) };
}

function choice(choices, chosen) {
	return E('select', { 'class': 'cbi-input-select' }, choices.map(([value, text]) =>
		E('option', { 'value': value, 'selected': value === chosen ? '' : null }, [text])));
}

function open(title, children) {
	const shown = ui.showModal(title, [E('div', { 'class': 'lanrage-dialog' }, [daemon.style()].concat(children))]);
	const first = shown.querySelector('.lanrage-dialog input, .lanrage-dialog select, .lanrage-dialog button');

	if (first)
		first.focus();
}

function closing(word) {
	return E('button', { 'class': 'btn cbi-button', 'click': ui.hideModal }, [word]);
}

function buttons(children) {
	return E('div', { 'class': 'right lanrage-actions' }, children);
}

/* Fields, and a button that does something with them. What goes wrong is said in between. */
function form(title, word, kind, fields, submit) {
	const problem = E('p', { 'role': 'alert', 'class': 'lanrage-problem' }, []);
	const run = () => {
		problem.textContent = '';

		return Promise.resolve().then(submit).catch((error) => { problem.textContent = error.message; });
	};

	open(title, fields.concat([problem, buttons([
		closing(_('Cancel')), E('button', { 'class': 'btn cbi-button ' + kind, 'click': ui.createHandlerFn({ run }, 'run') }, [word])
	])]));
}

/* A number as the lists of rights want it, so that they need no joker. */
function digits(number, places) {
	return String(number).padStart(places, '0');
}

function picture(text, label) {
	const rows = wireguard.qr(text);

	if (!rows)
		return '';

	const size = rows.length + 8;
	const path = rows.map((row, y) => row.map((dark, x) => dark ? 'M' + (x + 4) + ' ' + (y + 4) + 'h1v1h-1z' : '').join('')).join('');
	const svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ' + size + ' ' + size + '" shape-rendering="crispEdges">' +
		'<path d="M0 0h' + size + 'v' + size + 'H0z" fill="#fff"/><path d="' + path + '"/></svg>';

	return E('img', { 'src': 'data:image/svg+xml;base64,' + btoa(svg), 'alt': label });
}

/* Android renames what is text/plain. */
function download(name, text) {
	const url = URL.createObjectURL(new Blob([text], { type: 'application/octet-stream' }));

	return E('a', { 'class': 'btn cbi-button cbi-button-save', 'download': name, 'href': url }, [_('Save the file')]);
}

/* Shown once, with a button that copies it. */
function secret(label, text) {
	const line = input({ 'readonly': '', 'value': text });
	const copy = () => {
		line.select();
		document.execCommand('copy');
	};

	return [field(label, _('It is shown only now.'), line), buttons([
		E('button', { 'class': 'btn cbi-button cbi-button-action', 'click': copy }, [_('Copy')]), closing(_('Close'))
	])];
}

const ACCESS = ['invite', 'open', 'password', 'public'];

function option(access) {
	return access === 'invite' ? '--invite-only' : '--' + access;
}

function accessChoices() {
	return ACCESS.map((kind) => [kind, daemon.access(kind)]);
}

return baseclass.extend({
	/* Asks first, then does it. */
	confirm: function(question, word, extra, submit) {
		form(_('Are you sure?'), word, 'cbi-button-negative important', [E('p', {}, [question])].concat(extra), () =>
			submit().then(ui.hideModal));
	},

	box,

	createParty: function(done) {
		const name = input({ 'maxlength': '100' });
		const access = choice(accessChoices(), 'invite');

		form(_('New party'), _('Create the party'), 'cbi-button-save important', [
			field(_('Name'), _('What friends see. It belongs to this router and stays until you end it.'), name),
			field(_('Who may join'), _('Devices that you add get in in any case.'), access)
		], () => {
			if (name.value.trim() === '')
				throw new Error(_('A party needs a name.'));

			return daemon.ask(['party', 'create', '--json', option(access.value)], [name.value.trim()]).then((answer) => {
				this.password(answer);
				done();
			});
		});
	},

	/* A new password, if there is one. */
	password: function(answer) {
		if (answer.password)
			open(_('Password of the party'), secret(_('Password'), answer.password));
		else
			ui.hideModal();
	},

	settings: function(party, done) {
		const name = input({ 'maxlength': '100', 'value': party.name });
		const access = choice(accessChoices(), party.access);
		const ends = choice([['', _('As it is')], ['never', _('Never')], ['6', _('In 6 hours')], ['24', _('In a day')], ['168', _('In a week')]], '');
		const renew = box(_('Make a new password'));

		form(_('Settings'), _('Save'), 'cbi-button-save important', [
			E('p', {}, [fill(_('Id: {id}'), { id: party.party_id })]),
			field(_('Name'), null, name),
			field(_('Who may join'), _('Members stay, whatever is chosen.'), access),
			field(_('Ends'), _('Then everybody leaves, and files and pictures are of no use any more.'), ends),
			party.access === 'password' ? renew.node : ''
		], () => {
			const id = [party.party_id];
			const isOther = access.value !== party.access || renew.input.checked;
			const ask = (words) => daemon.ask(['party', 'set', '--json'].concat(words), id);
			const ending = ends.value === 'never' ? 'never' : digits(ends.value, 3) + 'h';
			const wanted = name.value.trim();

			if (wanted === '')
				throw new Error(_('A party needs a name.'));

			return Promise.resolve(wanted !== party.name ? daemon.ask(['party', 'rename', '--json'], id.concat(wanted)) : {}).then(() =>
				ends.value ? ask(['--ends', ending]) : {}).then(() =>
				isOther ? ask([option(access.value)]) : {}).then((answer) => {
				this.password(answer);
				done();
			});
		});
	},

	/* The key is made here, and sent nowhere. `watch` gets what is to say when the device has come. */
	addDevice: function(party, watch, done) {
		const keys = wireguard.newKeys();
		const name = input({ 'maxlength': '100' });
		const own = input({ 'maxlength': '44', 'spellcheck': 'false' });

		form(_('Add a device'), _('Add'), 'cbi-button-save important', [
			field(_('Whose device is it?'), _('For a phone or PC with the WireGuard app. Its key is made here in the browser and sent nowhere.'), name),
			E('details', {}, [
				E('summary', {}, [_('The app has a key already')]),
				field(_('Public key'), _('Then the file is without the private key, which the app keeps.'), own)
			])
		], () => {
			const key = own.value.trim();

			if (name.value.trim() === '')
				throw new Error(_('A device needs a name.'));
			if (key !== '' && !/^[A-Za-z0-9+\/]{43}=$/.test(key))
				throw new Error(_('A public key has 44 characters, the last of which is =.'));

			return daemon.ask(['device', 'add', '--json', '--key', key || keys.publicKey], [party.party_id, name.value.trim()]).then((answer) => {
				const text = wireguard.fileText(answer, key ? null : keys.privateKey);
				const status = E('p', { 'role': 'status' }, [daemon.badge('idle', _('Waiting for its first handshake'))]);

				watch(answer.peer_id, status);
				open(_('File of the device'), [
					E('p', {}, [E('strong', {}, [E('bdi', {}, [answer.name])]), ' ', answer.virtual_ip]),
					key ? '' : picture(text, _('QR code for the WireGuard app')),
					E('p', {}, [key
						? _('Import the file in the WireGuard app, and add the line PrivateKey that the app has.')
						: _('Scan it with the WireGuard app, or save the file and import it there. It is shown only now.')]),
					status,
					buttons([closing(_('Close')), download(wireguard.tunnelName(answer.name) + '.conf', text)])
				]);
				done();
			});
		});
	},

	/* `place` is where the pages are, if the daemon does not know by which name friends reach it. */
	invite: function(party, place, done) {
		const uses = input({ 'type': 'number', 'min': '1', 'max': '64', 'value': '1' });
		const lasts = choice([['1', _('An hour')], ['24', _('A day')], ['168', _('A week')]], '24');
		const code = box(_('A code to read out or type, good for a day at most'));

		form(_('Invite'), _('Make an invite'), 'cbi-button-save important', [
			field(_('For how many friends?'), null, uses), field(_('How long is it good?'), null, lasts), code.node
		], () => {
			const many = Number(uses.value);
			const hours = code.input.checked ? Math.min(24, lasts.value) : lasts.value;

			if (!(Number.isInteger(many) && many >= 1 && many <= 64))
				throw new Error(_('An invite is for 1 to 64 friends.'));

			return daemon.ask(['invite', 'create', '--json'].concat(code.input.checked ? ['--code'] : [],
				['--uses', digits(many, 2), '--expires', digits(hours, 3) + 'h']), [party.party_id]).then((answer) => {
				const link = answer.url || place + '/join#' + (answer.token || answer.code);

				open(_('Invite'), [
					E('p', {}, [E('strong', {}, [E('bdi', {}, [party.name])])]),
					picture(link, _('QR code of the invite')),
					E('p', {}, [answer.code
						? fill(_("Friends type the code at {page}, or in LANrage's own client in place of the party's id."), { page: link.split('#')[0] })
						: _('Who opens the link makes a file for the WireGuard app.')])
				].concat(secret(answer.code ? _('Code') : _('Link'), answer.code || link)));
				done();
			});
		});
	}
});
