// The pages for LuCI in a browser of our own making, with the real program behind `fs.exec`.
// Arguments: the program, the state directory of a running daemon, the directory of the LuCI package, and as JSON
// the names that were given to the party and its peers.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const rpcd = require('./rpcd.js');

const [program, stateDir, folder, given] = process.argv.slice(2);
const names = JSON.parse(given);
const resources = path.join(folder, 'htdocs/luci-static/resources');
const rights = rpcd.rights(folder);

// --- A document. Text that is given to be HTML is what must not happen.

const asHtml = [];

class Node {
	constructor(tag) {
		Object.assign(this, { tag, attributes: {}, listeners: {}, children: [], style: {}, value: '', checked: false });
	}
	set innerHTML(text) {
		asHtml.push(text);
	}
	get text() {
		return this.children.map((child) => typeof child === 'string' ? child : child.text).join('');
	}
	set textContent(text) {
		this.children = [text];
	}
	get textContent() {
		return this.text;
	}
	all(test) {
		const found = test(this) ? [this] : [];
		return found.concat(...this.children.filter((child) => child instanceof Node).map((child) => child.all(test)));
	}
	querySelectorAll(tag) {
		return this.all((node) => node.tag === tag);
	}
	querySelector() {
		return null;
	}
	getAttribute(name) {
		return this.attributes[name] ?? null;
	}
	setAttribute(name, value) {
		this.attributes[name] = value;
	}
	focus() {
		document.activeElement = this;
	}
	click() {
		assert(!('disabled' in this.attributes), 'a button that is off was clicked');
		return this.listeners.click({});
	}
}

// As LuCI does it: an array holds nodes and texts (null is one too), a lone text is HTML.
const dom = {
	append(node, children) {
		if (Array.isArray(children))
			for (const child of children) {
				if (child instanceof Node) node.children.push(child);
				else node.children.push(String(child));
			}
		else if (children instanceof Node) node.children.push(children);
		else if (children !== null && children !== undefined) node.innerHTML = children;
	},
	content(node, children) {
		node.children = [];
		dom.append(node, children);
	}
};

function E(tag, attributes, children) {
	assert(!tag.startsWith('<'), 'markup in place of a tag');
	const node = new Node(tag);
	for (const [name, value] of Object.entries(attributes || {})) {
		if (typeof value === 'function') node.listeners[name] = value;
		else if (value !== null && value !== undefined) node.attributes[name] = value;
	}
	if ('value' in node.attributes) node.value = node.attributes.value;
	dom.append(node, children);
	if (tag === 'select')
		node.value = (node.children.find((child) => 'selected' in child.attributes) || node.children[0]).value;
	return node;
}

// A text that was given for translation can be told from others.
const _ = (text) => '\u27e6' + text + '\u27e7';
const plain = (text) => text.replace(/[\u27e6\u27e7]/g, '');

let page = null;
let modal = null;
let notes = [];
const polls = [];
const document = { activeElement: null, getElementById: (id) => page && page.all((node) => node.attributes.id === id)[0] };
const opened = [];
const window = { location: { hostname: '192.168.1.1' }, open: (url) => opened.push(url) };
const ui = {
	showModal(title, children) {
		assert(!/[<&]/.test(title));
		return (modal = E('div', {}, children));
	},
	hideModal() { modal = null; },
	addNotification(title, children) { notes.push(E('div', {}, [].concat(children))); },
	createHandlerFn: (owner, name, ...rest) => (event) => owner[name](...rest, event)
};

const ran = [];
let role = ['read', 'write'];
let stateDirNow = stateDir;

const luciFs = {
	exec(command, words) {
		const line = [command, ...words].join(' ');
		if (!rights.mayRun(role, line))
			return Promise.reject(new Error('Permission denied: ' + line));
		ran.push(line);
		const result = spawnSync(program, words, { env: { LANRAGE_STATE_DIR: stateDirNow }, encoding: 'utf8' });
		return Promise.resolve({ code: result.status, stdout: result.stdout, stderr: result.stderr });
	}
};

// --- Settings and forms: what is asked of them is kept.

let stored = {};
const uci = {
	load: (config) => rights.mayRead(role, config) ? Promise.resolve() : Promise.reject(new Error('Permission denied')),
	get: (config, section, option) => option ? (stored[section] || {})[option] : stored[section],
	add: (config, type, section) => { stored[section] = { type }; }
};

const fields = [];
const form = {
	NamedSection: 'NamedSection', Flag: 'Flag', Value: 'Value', ListValue: 'ListValue',
	Map: function(config) {
		assert(rights.mayRead(role, config), config + ' can not be read by ' + role);
		this.section = (kind, name, type) => {
			assert.equal(kind, 'NamedSection');
			const tabs = new Set();
			const option = (kind, option, title, help) => {
				const field = { kind, config, section: name, type, option, title: plain(title), help, choices: [], value: (key) => field.choices.push(key) };
				assert(!fields.some((other) => other.config === config && other.option === option), option + ' is there twice');
				fields.push(field);
				return field;
			};
			return {
				section: name, option,
				tab: (name) => tabs.add(name),
				taboption(tab, ...rest) {
					assert(tabs.has(tab), tab);
					return Object.assign(option(...rest), { tab });
				}
			};
		};
		this.render = () => Promise.resolve(E('div', {}, []));
	}
};

const modules = { view: { extend: (members) => members }, baseclass: { extend: (members) => members }, fs: luciFs, poll: { add: (task, interval) => polls.push([task, interval]) }, ui, uci, dom, form };

function load(name) {
	const source = fs.readFileSync(path.join(resources, name.replace(/\./g, '/') + '.js'), 'utf8');
	const wanted = rpcd.required(source);
	const values = wanted.map(([from]) => modules[from] || (modules[from] = load(from)));
	const L = { hasViewPermission: () => role.includes('write') };
	const made = new Function('E', '_', 'L', 'document', 'window', ...wanted.map(([, as]) => as), source)(E, _, L, document, window, ...values);
	// What can be undone for a while is done at once.
	if (made.pause) made.pause = 0;
	return made;
}

/* Until what was put off is done. */
const settled = () => new Promise((done) => setTimeout(done, 50));

// --- What is seen.

const buttons = (label, within) => within.all((node) => node.tag === 'button' && plain(node.text) === label);
const rowOf = (text) => page.all((node) => node.tag === 'li').find((row) => plain(row.text).includes(text));
const daemon = (...words) => JSON.parse(execFileSync(program, [...words, '--json', '--state-dir', stateDir], { encoding: 'utf8' }));
const members = (party) => daemon('overview').parties.find((one) => one.party_id === party).members.map((member) => member.peer_id);

async function open(view) {
	page = view.render(await view.load());
	return page;
}

/* Presses a button, and again in the question that it asks; once to cancel it before. */
async function press(label, row, expected) {
	buttons(label, row)[0].click();
	assert(plain(modal.text).includes(expected), modal.text);
	const before = ran.length;
	buttons('Cancel', modal)[0].click();
	assert.equal(modal, null);
	assert.equal(ran.length, before, 'it asked, and did it all the same');
	buttons(label, row)[0].click();
	await buttons(label, modal)[0].click();
	assert.equal(modal, null);
	await settled();
	return ran[before];
}

const tests = {
	async 'the overview shows what there is by one question, and names as text'() {
		const view = load('view.lanrage.overview');
		role = ['read'];
		await open(view);
		assert.deepEqual(ran, ['/usr/bin/lanrage overview --json', '/usr/bin/lanrage peers --json']);
		const seen = plain(page.text);
		for (const text of [names.party, names.alice, names.odd, '10.66.0.2', '10.66.0.3', 'running', 'lanrage ' + daemon('overview').version, 'nothing yet', 'Online: 3 of 3'])
			assert(seen.includes(text), text + ' is not in ' + seen);
		assert(seen.includes('It is not known at which address') && !seen.includes('Dropped') && !seen.includes('This router as a player'));
		for (const part of ['online', 'host', '10.66.0.2', 'sent 0 B, received 0 B'])
			assert(plain(rowOf(names.alice).text).includes(part), part);
		for (const label of ['Kick', 'Ban', 'End party', 'Invite', 'Add a device', 'Settings', 'New party', 'Open its own pages'])
			assert(buttons(label, page).length > 0 && buttons(label, page).every((button) => 'disabled' in button.attributes), label);
		role = ['read', 'write'];
		assert.equal(polls.length, 1);
		assert(polls[0][1] >= 3);
		// The agent that is not there is not asked for a while.
		for (let round = 0; round < 12; round++) await polls[0][0]();
		assert.deepEqual(ran.splice(0).slice(2), Array(12).fill('/usr/bin/lanrage overview --json'));
		assert(plain(page.text).includes(names.party));
		assert(!/null|undefined|NaN|\[object/.test(page.text), page.text);
	},

	async 'every word on the page can be translated'() {
		await open(load('view.lanrage.overview'));
		let rest = page.text;
		for (let before = ''; before !== rest;) {
			before = rest;
			rest = rest.replace(/\u27e6[^\u27e6\u27e7]*\u27e7/g, ' ');
		}
		for (const text of [page.all((node) => node.tag === 'style')[0].text, names.party, names.alice, names.odd, 'Bob', 'lanrage ' + daemon('overview').version])
			rest = rest.split(text).join(' ');
		assert(!/[a-z]/i.test(rest), rest);
	},

	async 'a kick and a ban are asked about, done and shown'() {
		await open(load('view.lanrage.overview'));
		// An id that looks like an option is none.
		assert.equal(await press('Kick', rowOf(names.odd), names.odd + ' (k--key)'), `/usr/bin/lanrage peer kick --json -- ${names.id} k--key`);
		assert(!rowOf(names.odd) && rowOf('Bob'));
		assert(!members(names.id).includes('k--key'));

		assert.equal(await press('Ban', rowOf('Bob'), 'Bob (bob)'), `/usr/bin/lanrage peer ban --json -- ${names.id} bob`);
		assert.deepEqual(daemon('peer', 'bans', names.id).bans.map((ban) => ban.peer_id), ['bob']);
		assert(buttons('Kick', page).length === 1 && buttons('Lift', rowOf('bob')).length === 1);

		assert.equal(await press('Lift', rowOf('bob'), 'bob'), `/usr/bin/lanrage peer unban --json -- ${names.id} bob`);
		assert.deepEqual(daemon('peer', 'bans', names.id).bans, []);
		assert.equal(rowOf('bob'), undefined);

		// By a key alone, with everything in it that a list of rights could stumble over.
		const key = 'A/+B' + 'c'.repeat(39) + '=';
		const exec = luciFs.exec;
		luciFs.exec = (command, words) => exec(command, words).then((result) => words[0] !== 'overview' ? result
			: Object.assign(result, { stdout: result.stdout.replace('"bans":[]', `"bans":[{"peer_id":null,"public_key":"${key}"}]`) }));
		await open(load('view.lanrage.overview'));
		luciFs.exec = exec;
		buttons('Lift', rowOf(key))[0].click();
		await buttons('Lift', modal)[0].click();
		assert(ran.includes(`/usr/bin/lanrage peer unban --json --key ${key} -- ${names.id}`));
		assert.match(modal.text, /no such ban|not banned|Ban/i);
		modal = null;
	},

	async 'who is removed is there for a while, in which it can be undone'() {
		const view = load('view.lanrage.overview');
		view.pause = 60000;
		await open(view);
		for (const label of ['Kick', 'Ban']) {
			const before = ran.length;
			buttons(label, rowOf(names.alice))[0].click();
			await buttons(label, modal)[0].click();
			await view.refresh();
			assert(plain(rowOf(names.alice).text).includes('Will be removed in a few seconds'));
			assert.equal(buttons('Kick', rowOf(names.alice)).length, 0);
			buttons('Undo', rowOf(names.alice))[0].click();
			assert.equal(buttons(label, rowOf(names.alice)).length, 1);
			assert(!ran.slice(before).some((line) => line.includes(' peer ')));
		}
		assert(members(names.id).includes('alice') && view.leaving.size === 0);
	},

	async 'the diagnosis says what is found and what happened'() {
		role = ['read'];
		const before = ran.length;
		const view = load('view.lanrage.diagnosis');
		await open(view);
		assert.deepEqual(ran.slice(before), ['/usr/bin/lanrage doctor --json', '/usr/bin/lanrage events --json']);
		const seen = () => plain(page.text);
		for (const text of ['Address', 'wrong', 'It is not known', 'Clock', 'Firewall', 'What happened lately', names.odd + ' joined ' + names.party, names.odd + ' was removed from', 'Bob was banned from'])
			assert(seen().includes(text), text + ' is not in ' + seen());
		assert(seen().indexOf('was banned from') < seen().indexOf('was made'), 'what is new comes first');
		// A word that every object has, one that speaks of what is not there, and one of a newer daemon.
		const exec = luciFs.exec;
		const events = [['__proto__', {}], ['joined', { name: '\u202eEve' }], ['moved', { name: 'Eve' }]].map(([kind, more], at) => Object.assign({ number: at, at: 5, kind, text: 'Text ' + at }, more));
		const said = { events: events.map((event) => JSON.stringify(event)).join('\n') + '\n', doctor: JSON.stringify({ is_well: true, findings: [{ topic: 'constructor', verdict: 'toString', text: '<i>fine</i>', do: '' }] }) };
		luciFs.exec = (command, words) => exec(command, words).then((result) => Object.assign(result, { code: 0, stdout: said[words[0]] }));
		await polls.at(-1)[0]();
		await buttons('Look again', page)[0].click();
		luciFs.exec = exec;
		for (const text of ['Text 0', 'Text 1', 'Text 2', 'constructor toString<i>fine</i>', 'Nothing keeps friends out'])
			assert(seen().includes(text), text + ' is not in ' + seen());
		assert(!/null|undefined|NaN|function|\[object/.test(page.text), page.text);
		stateDirNow = path.join(stateDir, 'none');
		await open(load('view.lanrage.diagnosis'));
		assert.match(page.text, /not running.*does not answer.*lanrage serve.*Nothing has happened/);
		stateDirNow = stateDir;
		role = ['read', 'write'];
	},

	async 'what does not work is said'() {
		await open(load('view.lanrage.overview'));
		const row = rowOf(names.alice);
		role = ['read'];
		buttons('Kick', row)[0].click();
		await buttons('Kick', modal)[0].click();
		await settled();
		assert.match(notes.pop().text, /Permission denied/);
		await load('view.lanrage.overview').openPages({});
		assert.match(notes.pop().text, /Permission denied/);
		role = ['read', 'write'];
		assert(members(names.id).includes('alice'));

		stateDirNow = path.join(stateDir, 'none');
		await open(load('view.lanrage.overview'));
		assert.match(page.text, /not running.*does not answer.*lanrage serve/);
		assert.equal(page.all((node) => node.tag === 'li').length, 0);
		stateDirNow = stateDir;
		await polls.at(-1)[0]();
		assert(plain(page.text).includes(names.party));
	},

	async 'ids that every object has are like others'() {
		const exec = luciFs.exec;
		const odd = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
		const drops = odd.map((reason) => ({ reason, text: 'Dropped by ' + reason, packets: 7 }));
		const member = (id) => ({ peer_id: id, name: 'Name of ' + id, kind: id, virtual_ip: '10.66.0.9', is_online: true, path: id, rtt_ms: 0, last_handshake: null, received: 5, sent: 0, invite_id: id, drops });
		const party = (id) => ({ party_id: id, name: 'Party ' + id, host_id: 'constructor', access: id, ends_at: null, members: odd.map(member), invites: [], bans: [{ peer_id: id, public_key: null }] });
		const overview = { version: '1', now: 1000, uptime: 5, endpoint: null, http: null, reached_from_outside: 940, trouble: odd.map((what) => ({ what, text: 'Trouble of ' + what, do: 'Do it' })), drops, parties: odd.map(party) };
		const agent = { party: '', party_id: '__proto__', server: 'http://h', ip: null, local: true, members: odd.map((id) => ({ name: 'Peer ' + id, ip: '10.66.0.7', state: id, path: id, rtt_us: 12345, loss_per_mille: 15, received: 1500, sent: 0, handshake_seconds: 61, why_not_direct: 'not tried yet' })) };
		luciFs.exec = (command, words) => exec(command, words).then((result) => {
			const answer = { overview, peers: agent }[words[0]];
			return answer ? { code: 0, stdout: JSON.stringify(answer) } : result;
		});
		await open(load('view.lanrage.overview'));
		const seen = plain(page.text);
		for (const id of odd)
			for (const text of ['Party ' + id, 'Trouble of ' + id, 'Dropped packets: 7. Dropped by ' + id, 'Peer ' + id])
				assert(seen.includes(text), text + ': ' + seen);
		for (const text of ['Reached from the internet 1 min ago.', '0 ms', '12.3 ms', 'loss 1.5 %', 'sent 0 B, received 1.5 kB', 'handshake 1 min ago', 'Not direct: not tried yet', 'The server is away'])
			assert(seen.includes(text), text + ': ' + seen);
		assert.equal(page.all((node) => node.tag === 'li' && plain(node.text).includes('host')).length, odd.length);
		assert(!/null|undefined|NaN|function|\[object/.test(page.text), page.text);
		luciFs.exec = exec;
	},

	async 'a party is made, changed and filled'() {
		await open(load('view.lanrage.overview'));
		const of = (tag) => modal.all((node) => node.tag === tag);
		const made = () => daemon('overview').parties.find((party) => party.name === '-x <b>&');
		buttons('New party', page)[0].click();
		await buttons('Create the party', modal)[0].click();
		assert.match(modal.text, /needs a name/);
		of('input')[0].value = ' -x <b>& ';
		of('select')[0].value = 'password';
		await buttons('Create the party', modal)[0].click();
		assert.equal(made().access, 'password');
		assert.match(of('input')[0].value, /^(\w{4}-){3}\w{4}$/);
		await polls.at(-1)[0]();

		const card = () => page.all((node) => node.attributes.class === 'cbi-section' && node.text.includes('-x <b>&'))[0];
		buttons('Settings', card())[0].click();
		of('select')[0].value = 'invite';
		of('select')[1].value = '6';
		await buttons('Save', modal)[0].click();
		assert.equal(modal, null);
		assert.equal(made().access, 'invite');
		const left = made().ends_at - Date.now() / 1000;
		assert(left > 6 * 3600 - 60 && left <= 6 * 3600, left);
		buttons('Settings', card())[0].click();
		of('select')[1].value = 'never';
		await buttons('Save', modal)[0].click();
		assert.equal(made().ends_at, null);

		// A name that looks like an option is none.
		for (const name of ['', '--json <i>', '-x <b>&']) {
			const shown = () => page.all((node) => node.attributes.class === 'cbi-section').find((node) => /-x <b>&|--json <i>/.test(node.text));
			const { party_id: id } = daemon('overview').parties.find((party) => /-x <b>&|--json <i>/.test(party.name));
			buttons('Settings', shown())[0].click();
			of('input')[0].value = name;
			await buttons('Save', modal)[0].click();
			if (name === '') {
				assert.match(modal.text, /needs a name/);
				modal = null;
				continue;
			}
			assert.equal(modal, null);
			assert.equal(ran.filter((line) => line.includes('rename')).pop(), `/usr/bin/lanrage party rename --json -- ${id} ${name}`);
			assert.equal(daemon('overview').parties.find((party) => party.party_id === id).name, name);
			await polls.at(-1)[0]();
		}

		buttons('Invite', card())[0].click();
		of('input')[0].value = '65';
		await buttons('Make an invite', modal)[0].click();
		assert.match(modal.text, /1 to 64/);
		of('input')[0].value = '2';
		await buttons('Make an invite', modal)[0].click();
		assert.match(of('input')[0].value, /^http:\/\/127\.0\.0\.1:\d+\/join#[\w-]{22}$/);
		buttons('Invite', card())[0].click();
		of('select')[0].value = '168';
		of('input')[1].checked = true;
		await buttons('Make an invite', modal)[0].click();
		assert.match(of('input')[0].value, /^[A-Z2-9]{4}-?[A-Z2-9]{4}$/);
		await polls.at(-1)[0]();
		assert.deepEqual(made().invites.map(({ kind, uses }) => [kind, uses]), [['link', 2], ['code', 1]]);
		assert(made().invites[1].expires_at - Date.now() / 1000 <= 86400);
		assert(!JSON.stringify(daemon('overview')).includes(of('input')[0].value), 'the read role sees an invite');
		modal = null;
		const revoked = made().invites[1].invite_id;
		assert.equal(await press('Revoke', rowOf('Code: 1 of 1'), 'Nobody can come'), `/usr/bin/lanrage invite revoke --json -- ${made().party_id} ${revoked}`);
		assert.equal(made().invites.length, 1);

		buttons('Add a device', card())[0].click();
		of('input')[0].value = '--Zo\u00eb <i>';
		await buttons('Add', modal)[0].click();
		const [{ peer_id: device }] = made().members;
		const [download] = of('a');
		const file = await (await fetch(download.attributes.href)).text();
		const privateKey = /^PrivateKey = (\S{44})$/m.exec(file)[1];
		const publicKey = execFileSync(program, ['pubkey'], { input: privateKey, encoding: 'utf8' }).trim();
		assert(ran.includes(`/usr/bin/lanrage device add --json --key ${publicKey} -- ${made().party_id} --Zo\u00eb <i>`));
		assert(!ran.some((line) => line.includes(privateKey)), 'the private key left the browser');
		assert.match(file, /^Address = 10\.66\.\d+\.\d+\/16$/m);
		assert.equal(download.attributes.download, 'Zoe-i.conf');
		assert.match(of('img')[0].attributes.src, /^data:image\/svg\+xml;base64,/);
		assert.match(modal.text, /Waiting/);
		// It comes.
		const exec = luciFs.exec;
		luciFs.exec = (command, words) => exec(command, words).then((result) => Object.assign(result, { stdout: result.stdout.replace(`"peer_id":"${device}"`, '$&,"is_online":true').replace(/"is_online":false/g, '"ignored":0') }));
		await polls.at(-1)[0]();
		luciFs.exec = exec;
		assert.match(modal.text, /Connected/);
		modal = null;
		await polls.at(-1)[0]();

		// A key that the app has is taken as it is, and there is no picture.
		buttons('Add a device', card())[0].click();
		of('input')[0].value = 'PC';
		of('input')[1].value = 'short';
		await buttons('Add', modal)[0].click();
		assert.match(modal.text, /44 characters/);
		of('input')[1].value = execFileSync(program, ['pubkey'], { input: execFileSync(program, ['genkey']), encoding: 'utf8' }).trim();
		await buttons('Add', modal)[0].click();
		assert(!(await (await fetch(of('a')[0].attributes.href)).text()).includes('PrivateKey') && of('img').length === 0);
		modal = null;

		// On a router it listens on every address, and does not know by which one it is seen.
		luciFs.exec = (command, words) => exec(command, words).then((result) => Object.assign(result, { stdout: result.stdout.replace(/"url":"[^"]*"/, '"url":null') }));
		buttons('Open its own pages', page)[0].click();
		for (let round = 0; !opened.length && round < 50; round++) await new Promise((done) => setTimeout(done, 20));
		assert.match(opened[0], /^http:\/\/192\.168\.1\.1:8667\/ui\/#\S+$/);
		luciFs.exec = exec;
		await polls.at(-1)[0]();
		await press('End party', card(), '-x <b>&');
	},

	async 'who is removed takes their invite along'() {
		const exec = luciFs.exec;
		luciFs.exec = (command, words) => exec(command, words).then((result) => Object.assign(result, { stdout: result.stdout.replace('"invite_id":null', '"invite_id":"i1"').replace('"invites":[]', `"invites":[{"invite_id":"i1","kind":"link","uses":2,"uses_left":1,"expires_at":${Math.floor(Date.now() / 1000) + 999}}]`) }));
		await open(load('view.lanrage.overview'));
		luciFs.exec = exec;
		buttons('Ban', rowOf(names.alice))[0].click();
		const [box] = modal.all((node) => node.attributes.type === 'checkbox');
		box.checked = true;
		const before = ran.length;
		luciFs.exec = (command, words) => {
			if (words[0] === 'overview') return exec(command, words);
			ran.push([command, ...words].join(' '));
			return Promise.resolve({ code: 0, stdout: '{}' });
		};
		await buttons('Ban', modal)[0].click();
		await settled();
		luciFs.exec = exec;
		assert.deepEqual(ran.splice(before, 2), [`/usr/bin/lanrage peer ban --json -- ${names.id} alice`, `/usr/bin/lanrage invite revoke --json -- ${names.id} i1`]);
		modal = null;
	},

	async 'a party can be ended'() {
		await open(load('view.lanrage.overview'));
		assert.equal(await press('End party', page, names.party), `/usr/bin/lanrage party delete --json -- ${names.id}`);
		assert.match(page.text, /There are no parties/);
	},

	async 'the lists allow what the pages do and no more'() {
		const all = rights.patterns(['read', 'write']);
		const kinds = new Set(['--open', '--public', '--password', '--invite-only']);
		for (const pattern of all)
			assert(ran.some((line) => rpcd.allows(pattern, line)) || pattern.split(' ').some((word) => kinds.has(word)), 'nothing needs ' + pattern);
		const key = 'A'.repeat(43) + '=';
		for (const line of [
			'/usr/bin/lanrage', '/usr/bin/lanrage serve', '/usr/bin/lanrage overview --json --state-dir /tmp/x', '/usr/bin/lanrage backup /tmp/x',
			'/usr/bin/lanrage peer kick --state-dir /tmp/x --json -- a b', '/usr/bin/lanrage db dump', '/bin/sh', '/etc/init.d/lanrage stop',
			`/usr/bin/lanrage device add --json --key ${key} --conf /etc/x.conf -- a b`, `/usr/bin/lanrage device add --json --key ${key}A -- a b`,
			'/usr/bin/lanrage party rename a b', '/usr/bin/lanrage events --json --follow', '/usr/bin/lanrage doctor', `/usr/bin/lanrage device add --json --key ${'A'.repeat(30)} --conf /etc= -- a b`, '/usr/bin/lanrage invite create --json --uses 1 --conf x -- a'
		])
			assert(!rights.mayRun(['read', 'write'], line), line);
		assert.deepEqual(rights.patterns(['read']), ['overview', 'peers', 'events', 'doctor'].map((word) => `/usr/bin/lanrage ${word} --json`));
	},

	async 'every setting of the daemon can be set, by its name in words'() {
		const view = load('view.lanrage.settings');
		fields.length = 0;
		stored = { service: {} };
		page = await view.render(await view.load());
		assert.deepEqual(Object.keys(stored).sort(), ['agent', 'limits', 'main', 'rates', 'service', 'timeouts']);
		const options = load('lanrage.options').all;
		const own = fields.filter((field) => !field.ucioption);
		assert.deepEqual(own.map((field) => field.option).sort(), ['enabled', 'firewall', 'jail', 'mdns']);
		assert(own.every((field) => field.type === 'service' && field.kind === 'Flag' && field.rmempty === false));
		assert.deepEqual(own.find((field) => field.option === 'enabled').default, '0');
		const others = fields.filter((field) => field.ucioption && field.ucisection !== 'agent');
		const named = (all, section, name) => all.map((field) => [field.config || 'lanrage', field[section], field[name]].join('.')).sort();
		assert.deepEqual(named(others, 'ucisection', 'ucioption'), named(options, 'section', 'name'));
		assert(others.every((field) => field.rmempty && field.help && /^[A-Z]/.test(field.title) && !/_/.test(field.title)));
		assert.deepEqual(others.filter((field) => field.password).map((field) => field.ucioption), ['admin_token']);
		assert.deepEqual(others.filter((field) => field.config !== 'lanrage').map((field) => field.ucioption), ['admin_token']);
		const gso = others.find((field) => field.ucioption === 'gso');
		assert.deepEqual([gso.kind, gso.choices, gso.title], ['ListValue', ['', 'yes', 'no'], 'Send datagrams in runs']);
		// This router as a player: what only friends may know is where only who may write sees it.
		const player = fields.filter((field) => field.ucisection === 'agent');
		assert.deepEqual(player.map((field) => `${field.config}.${field.ucioption}`), ['lanrage.enabled', 'lanrage.server', 'lanrage.name', 'lanrage.firewall',
			'lanrage_secret.party', 'lanrage_secret.password']);
		assert(player.every((field) => field.title && field.help));
		assert.deepEqual(player.filter((field) => field.kind === 'Flag').map((field) => [field.default, field.rmempty]), [['0', false], ['1', false]]);
		// What comes first.
		assert.deepEqual(fields.filter((field) => field.tab === 'general').map((field) => field.title), ['Enabled', 'Public address']);
		assert.match(page.text, /running.*Friends use.*nothing yet/);
	},

	async 'an address that friends can not use is warned of'() {
		const view = load('view.lanrage.settings');
		fields.length = 0;
		page = await view.render(await view.load());
		const warning = () => plain(document.getElementById('lanrage-address').text);
		const field = fields.find((field) => field.ucioption === 'public_endpoint');
		assert.match(warning(), /Without a public address/);
		for (const [text, expected] of [
			['100.64.0.1:51820', /provider/], ['100.127.9.9:1', /provider/], ['100.128.0.1:1', /^$/], ['192.168.1.1:51820', /own network/], ['10.0.0.1:1', /own network/],
			['172.16.0.1:1', /own network/], ['172.32.0.1:1', /^$/], ['[fd00::1]:1', /own network/], ['[fe80::1]:1', /own network/], ['[2001:db8::1]:51820', /^$/],
			['router:51820', /own network/], ['router.lan:51820', /own network/], ['home.example.org:51820', /^$/], ['fcbarcelona.com:1', /^$/], ['10.example.org:1', /^$/]
		]) {
			assert.equal(field.validate('main', text), true, text);
			assert.match(warning(), expected, text);
		}
		assert.match(plain(field.validate('main', 'nonsense')), /^Expected: HOST:PORT/);
		// The daemon knows one that was set on its own pages.
		view.overview = { endpoint: 'games.example.org:51820' };
		field.validate('main', '');
		assert.match(warning(), /^The daemon uses games\.example\.org:51820/);
	},

	async 'who may only look sees no secret'() {
		role = ['read'];
		assert(rights.mayRead(role, 'lanrage') && !rights.mayRead(role, 'lanrage_secret'));
		fields.length = 0;
		const view = load('view.lanrage.settings');
		await view.render(await view.load());
		assert(fields.length > 20 && !fields.some((field) => field.password || ['admin_token', 'party'].includes(field.ucioption)));
		role = ['read', 'write'];
		assert(rights.mayRead(role, 'lanrage_secret'));
	},

	async 'a page takes what the daemon takes'() {
		const view = load('view.lanrage.settings');
		const values = ['0', '1', '-1', '1.5', '+1', '100000', '1e3', 'x', ' 1', '0.25', '3/4', '0/4', '3/0', '3/4/5', '3', '0.0.0.0:8667', '0.0.0.0', '0.0.0.0:', '1.2.3.4:0', '1.2.3.256:1',
			'01.2.3.4:1', '1.2.3.4:65536', '[::]:1', '[::1]:8667', '::1:1', '[1:2:3:4:5:6:7:8]:9', '[1:2:3]:9', '[1::2::3]:9', '[::ffff:1.2.3.4]:9', '[12345::]:1', 'home.example.org:51820', 'home:0',
			'a b:1', ':1', '10.66.0.0/16', '10.66.0.1/16', '10.0.0.0/7', '10.0.0.0/31', '10.0.0.0', '10.0.0.0/8', '127.0.0.1,::1', '127.0.0.1, ::1', '127.0.0.1 ::1', 'a name', 'n'.repeat(64), 'n'.repeat(65),
			'a\tb', '0123456789abcdef', '0123456789abcde', '0123456789 abcdef', 'https://play.example.org', 'https://play.example.org/', 'https://', 'ftp://x', 'http://[::1]:80', 'true', 'false', 'yes', 'debug', 'loud', '/etc/lanrage', '..', 'a.b_c-1', 'n'.repeat(15), 'n'.repeat(16)];
		const kinds = new Map(load('lanrage.options').all.map((option) => [option.expected, option]));
		for (const [expected, option] of kinds) {
			const flag = '--' + (option.section === 'main' ? '' : option.section + '-') + option.name.replace(/_/g, '-');
			assert(option.initial === '' || view.fits(expected, option.initial), option.name);
			for (const value of values) {
				// What lies outside of directories that root may give away is the init script's matter.
				if (/_dir$/.test(option.name)) continue;
				const taken = spawnSync(program, ['serve', '--config', '/dev/null', '--print-config', flag + '=' + value]).status === 0;
				const fits = view.fits(expected, value);
				// These the page finds too odd, or does not look at as closely.
				const excused = (expected === 'yes or no' && ['true', 'false'].includes(value)) || ['+1', '10.66.0.1/16', '1e3', ' 1'].includes(value) || (/,/.test(value) && /HOST/.test(expected));
				assert(fits === taken || excused, `${flag}=${value}: the page says ${fits}, the daemon ${taken}`);
			}
		}
		for (const [text, fits] of [['/etc/lanrage', true], ['/mnt/usb-1/x.y', true], ['/etc', false], ['etc/x', false], ['/a/../b', false], ['/a/b/', false], ['/a b/c', false]])
			assert.equal(view.fits('a directory', text), fits, text);
	}
};

(async () => {
	for (const [name, test] of Object.entries(tests)) {
		await test();
		assert.deepEqual(asHtml, [], 'a text was given for HTML');
		assert.deepEqual(notes, []);
		console.log('ok: ' + name);
	}
})().catch((error) => {
	console.error(error);
	process.exit(1);
});
