// The pages for LuCI in a browser of our own making, with the real program behind `fs.exec`.
// Arguments: the program, the state directory of a running daemon, the directory of the LuCI package, and as JSON
// the names that were given to the party and its peers.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [program, stateDir, folder, given] = process.argv.slice(2);
const names = JSON.parse(given);
const resources = path.join(folder, 'htdocs/luci-static/resources');
const acl = JSON.parse(fs.readFileSync(path.join(folder, 'root/usr/share/rpcd/acl.d/luci-app-lanrage.json')))['luci-app-lanrage'];

// --- A document. Text that is given to be HTML is what must not happen.

const asHtml = [];

class Node {
	constructor(tag) {
		Object.assign(this, { tag, attributes: {}, listeners: {}, children: [] });
	}
	set innerHTML(text) {
		asHtml.push(text);
	}
	get text() {
		return this.children.map((child) => typeof child === 'string' ? child : child.text).join('');
	}
	all(test) {
		const found = test(this) ? [this] : [];
		return found.concat(...this.children.filter((child) => child instanceof Node).map((child) => child.all(test)));
	}
	click() {
		assert(!this.attributes.disabled, 'a button that is off was clicked');
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
	dom.append(node, children);
	return node;
}

let page = null;
let modal = null;
let notes = [];
const polls = [];
const document = { getElementById: (id) => page && page.all((node) => node.attributes.id === id)[0] };
const ui = {
	showModal(title, children) {
		assert(!/[<&]/.test(title));
		modal = E('div', {}, children);
	},
	hideModal() { modal = null; },
	addNotification(title, children) { notes.push(E('div', {}, [].concat(children))); },
	createHandlerFn: (owner, name, ...rest) => (event) => owner[name](...rest, event)
};

// --- rpcd: what the lists allow is run, by patterns over the whole command line.

const ran = [];
let role = ['read', 'write'];

function allows(pattern, line) {
	return new RegExp('^' + pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '[\\s\\S]*') + '$').test(line);
}

function patterns(roles) {
	return roles.flatMap((name) => Object.entries(acl[name].file)).filter(([, rights]) => rights.includes('exec')).map(([line]) => line);
}

const luciFs = {
	exec(command, words) {
		const line = [command, ...words].join(' ');
		if (!patterns(role).some((pattern) => allows(pattern, line)))
			return Promise.reject(new Error('Permission denied: ' + line));
		ran.push(line);
		const result = spawnSync(program, words, { env: { LANRAGE_STATE_DIR: stateDirNow }, encoding: 'utf8' });
		return Promise.resolve({ code: result.status, stdout: result.stdout, stderr: result.stderr });
	}
};
let stateDirNow = stateDir;

// --- Forms: what is asked of them is kept.

/* What rpcd grants over a package of settings: lists grant their section's own right, tables what they name. */
function mayRead(config) {
	return role.some((name) => Array.isArray(acl[name].uci)
		? name === 'read' && acl[name].uci.includes(config)
		: (acl[name].uci[config] || []).includes('read'));
}

const fields = [];
const form = {
	NamedSection: 'NamedSection', Flag: 'Flag', Value: 'Value', ListValue: 'ListValue',
	Map: function(config) {
		assert(mayRead(config), config + ' can not be read by ' + role);
		this.section = (kind, name, type) => {
			assert.equal(kind, 'NamedSection');
			return {
				section: name,
				option(kind, option, title, help) {
					const field = { kind, config, section: name, type, option, title, help, choices: [], value: (key) => field.choices.push(key) };
					fields.push(field);
					return field;
				}
			};
		};
		this.render = () => Promise.resolve(E('div', {}, []));
	}
};

const modules = { view: { extend: (members) => members }, baseclass: { extend: (members) => members }, fs: luciFs, poll: { add: (task, interval) => polls.push([task, interval]) }, ui, dom, form };

function load(name) {
	const source = fs.readFileSync(path.join(resources, name.replace(/\./g, '/') + '.js'), 'utf8');
	const wanted = [...source.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm)].map(([, from, as]) => [as || from, from]);
	const values = wanted.map(([, from]) => modules[from] || load(from));
	const L = { hasViewPermission: () => role.includes('write') };
	return new Function('E', '_', 'L', 'document', ...wanted.map(([as]) => as), source)(E, (text) => text, L, document, ...values);
}

// --- What is seen.

const buttons = (label, within) => within.all((node) => node.tag === 'button' && node.text === label);
const rows = (within) => within.all((node) => node.tag === 'tr').map((row) => row.children.map((cell) => cell.text));
const rowOf = (text) => page.all((node) => node.tag === 'tr').find((row) => row.children.some((cell) => cell.text === text));
const daemon = (...words) => JSON.parse(execFileSync(program, [...words, '--json', '--state-dir', stateDir], { encoding: 'utf8' }));

async function open(view) {
	page = view.render(await view.load());
	return page;
}

async function press(label, row, expected) {
	buttons(label, row)[0].click();
	assert(modal.text.includes(expected), modal.text);
	const before = ran.length;
	buttons('Cancel', modal)[0].click();
	assert.equal(modal, null);
	assert.equal(ran.length, before, 'it asked, and did it all the same');
	buttons(label, row)[0].click();
	await buttons(label, modal)[0].click();
	assert.equal(modal, null);
	return ran[before];
}

const tests = {
	async 'the overview shows what there is, and names as text'() {
		const view = load('view.lanrage.overview');
		role = ['read'];
		await open(view);
		const seen = page.text;
		for (const text of [names.party, names.alice, names.odd, names.id, '10.66.0.2', '10.66.0.3', 'Relayed unread', '0 packets, 0 B'])
			assert(seen.includes(text), text + ' is not in ' + seen);
		const status = daemon('status');
		assert(rows(page).some(([name, value]) => name === 'Version' && value === status.version));
		assert(rows(page).some(([name, value]) => name === 'Relay' && value === status.relay.address + ' (UDP)'));
		const row = rows(page).find((row) => row[1] === 'alice (host)');
		assert.deepEqual([row[0], row[2], row[3], row[4]], [names.alice, '10.66.0.2', '-', '-']);
		assert.match(row[5], /^\d+ (s|min) ago$/);
		for (const label of ['Kick', 'Ban', 'End party'])
			assert(buttons(label, page).length > 0 && buttons(label, page).every((button) => button.attributes.disabled), label);
		role = ['read', 'write'];
		assert.equal(polls.length, 1);
		assert(polls[0][1] >= 5);
		await polls[0][0]();
		assert(page.text.includes(names.party));
		assert(!/null|undefined|NaN/.test(page.text), page.text);
	},

	async 'a kick and a ban are asked about, done and shown'() {
		await open(load('view.lanrage.overview'));
		// An id that looks like an option is none.
		assert.equal(await press('Kick', rowOf('k--key'), names.odd + ' (k--key)'), `/usr/bin/lanrage peer kick --json -- ${names.id} k--key`);
		assert(!rowOf('k--key') && rowOf('bob'));
		assert(!('k--key' in daemon('party', 'show', names.id).party.peers));

		assert.equal(await press('Ban', rowOf('bob'), 'Bob (bob)'), `/usr/bin/lanrage peer ban --json -- ${names.id} bob`);
		assert.deepEqual(daemon('peer', 'bans', names.id).bans.map((ban) => ban.peer_id), ['bob']);
		assert(buttons('Kick', page).length === 1 && buttons('Lift', rowOf('bob')).length === 1);

		assert.equal(await press('Lift', rowOf('bob'), 'bob'), `/usr/bin/lanrage peer unban --json -- ${names.id} bob`);
		assert.deepEqual(daemon('peer', 'bans', names.id).bans, []);
		assert.equal(rowOf('bob'), undefined);
	},

	async 'what does not work is said'() {
		await open(load('view.lanrage.overview'));
		const row = rowOf('alice (host)');
		role = ['read'];
		buttons('Kick', row)[0].click();
		await buttons('Kick', modal)[0].click();
		role = ['read', 'write'];
		assert.equal(modal, null);
		assert.match(notes.pop().text, /Permission denied/);
		assert('alice' in daemon('party', 'show', names.id).party.peers);

		stateDirNow = path.join(stateDir, 'none');
		await open(load('view.lanrage.overview'));
		assert.match(page.text, /does not answer/);
		assert.match(page.text, /lanrage: /);
		assert.equal(rows(page).length, 0);
		stateDirNow = stateDir;
		await polls.at(-1)[0]();
		assert.match(page.text, /Parties, peers/);
	},

	async 'ids that every object has are like others'() {
		const exec = luciFs.exec;
		const odd = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
		const info = (id) => ({ peer_id: id, name: 'Name of ' + id, last_seen: '2026-11-05T12:00:00.123456' });
		// As the daemon prints them: in an object literal `__proto__` would be something else.
		const byId = (value) => '{' + odd.map((id) => JSON.stringify(id) + ':' + JSON.stringify(value(id))).join(',') + '}';
		let many = [];
		luciFs.exec = (command, words) => exec(command, words).then((result) => {
			const line = words.filter((word) => word !== '--json' && word !== '--').join(' ');
			if (line === 'party list')
				return { code: 0, stdout: JSON.stringify({ parties: odd.concat(many).map((id) => ({ party_id: id, name: 'Party ' + id, host_id: id, peers: 4 })) }) };
			if (line.startsWith('party show '))
				return { code: 0, stdout: `{"party":{"host_id":"constructor","peers":${byId(info)}},"network":{"peers":{"toString":"10.66.0.9"}}}` };
			if (line.startsWith('peer bans '))
				return { code: 0, stdout: '{"bans":[{"peer_id":"__proto__"}]}' };
			return result;
		});
		await open(load('view.lanrage.overview'));
		for (const id of odd) {
			assert(page.text.includes('Party ' + id));
			const address = id === 'toString' ? '10.66.0.9' : '-';
			const shown = rows(page).filter((row) => row[0] === 'Name of ' + id);
			assert.equal(shown.length, odd.length, id);
			for (const row of shown)
				assert.deepEqual(row.slice(1, 5), [id === 'constructor' ? id + ' (host)' : id, address, '-', '-']);
		}
		// Nobody has opened these.
		many = Array.from({ length: 9 }, (_, i) => 'p' + i);
		await open(load('view.lanrage.overview'));
		assert.equal(buttons('Show', page).length, odd.length + 9);
		await buttons('Show', page)[0].click();
		assert.equal(buttons('Show', page).length, odd.length + 8);
		assert(!/null|undefined|NaN|function|\[object/.test(page.text), page.text);
		luciFs.exec = exec;
	},

	async 'of many parties only those that were opened are asked for'() {
		const view = load('view.lanrage.overview');
		const { parties } = daemon('party', 'list');
		assert(parties.length <= 8);
		const exec = luciFs.exec;
		// Nine more, which nobody is in any more when they are looked at.
		luciFs.exec = (command, words) => exec(command, words).then((result) => {
			if (words.join(' ') !== 'party list --json') return result;
			const more = Array.from({ length: 9 }, (_, i) => ({ party_id: 'gone' + i, name: 'Gone', host_id: 'x', peers: 1 }));
			return Object.assign(result, { stdout: JSON.stringify({ parties: parties.concat(more) }) });
		});
		let before = ran.length;
		await open(view);
		assert.equal(ran.length - before, 2);
		assert.equal(buttons('Show', page).length, 9 + parties.length);
		await buttons('Show', page)[0].click();
		assert(rowOf('alice (host)'));
		// The next one has ended since.
		await buttons('Show', page)[0].click();
		assert.equal(buttons('Show', page).length, 8);
		luciFs.exec = exec;
	},

	async 'a party can be ended'() {
		await open(load('view.lanrage.overview'));
		assert.equal(await press('End party', page, names.party), `/usr/bin/lanrage party delete --json -- ${names.id}`);
		assert.match(page.text, /There are no parties/);
	},

	async 'the lists allow what the pages do and no more'() {
		const all = patterns(['read', 'write']);
		for (const pattern of all)
			assert(ran.some((line) => allows(pattern, line)), 'nothing needs ' + pattern);
		for (const line of [
			'/usr/bin/lanrage', '/usr/bin/lanrage serve', '/usr/bin/lanrage status --json --state-dir /tmp/x', '/usr/bin/lanrage backup /tmp/x',
			'/usr/bin/lanrage peer kick --state-dir /tmp/x --json -- a b', '/usr/bin/lanrage db dump', '/bin/sh', '/etc/init.d/lanrage stop'
		])
			assert(!all.some((pattern) => allows(pattern, line)), line);
		const changes = /kick|ban |unban|delete/;
		assert(patterns(['read']).every((line) => !changes.test(line)));
		assert(patterns(['write']).every((line) => changes.test(line)));
	},

	async 'every setting of the daemon can be set'() {
		const view = load('view.lanrage.settings');
		fields.length = 0;
		await view.render();
		const options = load('lanrage.options').all;
		const own = fields.filter((field) => field.section === 'service');
		assert.deepEqual(own.map((field) => field.option).sort(), ['enabled', 'firewall', 'jail', 'mdns']);
		assert(own.every((field) => field.type === 'service' && field.kind === 'Flag' && field.rmempty === false));
		assert.deepEqual(own.find((field) => field.option === 'enabled').default, '0');
		const others = fields.filter((field) => field.section !== 'service');
		const named = (all) => all.map((field) => [field.config || 'lanrage', field.section, field.option || field.name]).sort();
		assert.deepEqual(named(others), named(options));
		assert(others.every((field) => field.type === 'settings' && field.rmempty && field.help));
		assert.deepEqual(others.filter((field) => field.password).map((field) => field.option), ['admin_token']);
		assert.deepEqual(others.filter((field) => field.config !== 'lanrage').map((field) => field.option), ['admin_token']);
		const gso = others.find((field) => field.option === 'gso');
		assert.deepEqual([gso.kind, gso.choices], ['ListValue', ['', 'yes', 'no']]);
	},

	async 'who may only look sees no secret'() {
		role = ['read'];
		assert(mayRead('lanrage') && !mayRead('lanrage_secret'));
		fields.length = 0;
		await load('view.lanrage.settings').render();
		assert(fields.length > 20 && !fields.some((field) => field.password || field.option === 'admin_token'));
		role = ['read', 'write'];
		assert(mayRead('lanrage_secret'));
	},

	async 'a page takes what the daemon takes'() {
		const view = load('view.lanrage.settings');
		const values = ['0', '1', '-1', '1.5', '+1', '100000', '1e3', 'x', ' 1', '0.25', '3/4', '0/4', '3/0', '3/4/5', '3', '0.0.0.0:8667', '0.0.0.0', '0.0.0.0:', '1.2.3.4:0', '1.2.3.256:1',
			'01.2.3.4:1', '1.2.3.4:65536', '[::]:1', '[::1]:8667', '::1:1', '[1:2:3:4:5:6:7:8]:9', '[1:2:3]:9', '[1::2::3]:9', '[::ffff:1.2.3.4]:9', '[12345::]:1', 'home.example.org:51820', 'home:0',
			'a b:1', ':1', '10.66.0.0/16', '10.66.0.1/16', '10.0.0.0/7', '10.0.0.0/31', '10.0.0.0', '10.0.0.0/8', '127.0.0.1,::1', '127.0.0.1, ::1', '127.0.0.1 ::1', 'a name', 'n'.repeat(64), 'n'.repeat(65),
			'a\tb', '0123456789abcdef', '0123456789abcde', '0123456789 abcdef', 'true', 'false', 'yes', 'debug', 'loud', '/etc/lanrage', '..', 'a.b_c-1', 'n'.repeat(15), 'n'.repeat(16)];
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
