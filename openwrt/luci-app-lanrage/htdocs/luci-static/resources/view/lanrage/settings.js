'use strict';
'require view';
'require form';
'require uci';
'require lanrage.daemon as daemon';
'require lanrage.options as options';

/* Behind the first tab: where settings are, by their section. */
const TABS = [
	['main', 'advanced', _('Advanced')],
	['limits', 'limits', _('Limits')],
	['rates', 'rates', _('Rates')],
	['timeouts', 'timeouts', _('Time-outs')]
];
const WORDS = new Map([['yes', _('yes')], ['no', _('no')]]);
/* What everybody should look at. */
const FIRST = 'public_endpoint';

function isPort(text) {
	return /^\d{1,5}$/.test(text) && +text <= 65535;
}

function isIPv4(text) {
	const parts = text.split('.');

	return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && +part <= 255);
}

function isIPv6(text) {
	const halves = text.split('::');
	const groups = halves.map((half) => half === '' ? [] : half.split(':'));
	const last = groups[groups.length - 1];
	let count = 0;

	if (halves.length > 2)
		return false;

	if (last.length && last[last.length - 1].includes('.')) {
		if (!isIPv4(last.pop()))
			return false;
		count = 2;
	}

	for (const group of [].concat(...groups)) {
		if (!/^[0-9a-f]{1,4}$/i.test(group))
			return false;
		count++;
	}

	return halves.length === 2 ? count <= 7 : count === 8;
}

/* Host and port, or nothing. */
function parts(text) {
	const found = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(text);

	return found && isPort(found[3]) ? { six: found[1], host: found[2], port: +found[3] } : null;
}

/* What fits, by how the daemon says what it expects. The daemon looks again, and keeps running if it does not. */
const RULES = [
	[/^a whole number, at least (\d+)$/, (text, least) => /^\d{1,9}$/.test(text) && +text >= +least],
	[/^auto, or a number of MiB, at least (\d+)$/, (text, least) => text === 'auto' || (/^\d{1,9}$/.test(text) && +text >= +least)],
	[/^a number of seconds/, (text) => /^(\d+\.?\d*|\.\d+)$/.test(text) && +text > 0 && +text <= 315360000],
	[/^COUNT\/BURST/, (text) => /^\d+\/\d+$/.test(text) && text.split('/').every((part) => +part >= 1 && +part <= 1000000)],
	[/^an address and port/, (text) => {
		const at = parts(text);

		return at !== null && (at.six !== undefined ? isIPv6(at.six) : isIPv4(at.host));
	}],
	[/^HOST:PORT/, (text) => {
		const at = parts(text);

		return at !== null && at.port > 0 && (at.six !== undefined ? isIPv6(at.six) : /^[A-Za-z0-9._-]{1,253}$/.test(at.host));
	}],
	[/^an IPv4 subnet/, (text) => {
		const [address, prefix] = text.split('/');

		return /^[^\/]+\/\d{1,2}$/.test(text) && isIPv4(address) && +prefix >= 8 && +prefix <= 30;
	}],
	[/^IP addresses/, (text) => text.split(',').every((part) => isIPv4(part.trim()) || isIPv6(part.trim()))],
	[/^names with commas/, (text) => text.split(',').every((part) => /^[A-Za-z0-9._-]{1,253}$/.test(part.trim()))],
	[/^http:\/\/ or https:/, (text) => /^https?:\/\/[A-Za-z0-9._:\[\]-]+$/.test(text)],
	[/^origins with commas/, (text) => text.split(',').every((part) => /^[A-Za-z][A-Za-z0-9+.-]*:\/\/[A-Za-z0-9._:\[\]-]+$/.test(part.trim()))],
	[/^a name of 1 to 15/, (text) => /^[A-Za-z0-9._-]{1,15}$/.test(text) && text !== '.' && text !== '..'],
	[/^a name of 1 to 64/, (text) => text.length <= 64 && !/[\x00-\x1f\x7f-\x9f]/.test(text)],
	[/^at least 16 characters/, (text) => /^[!-~]{16,}$/.test(text)],
	[/^a directory/, (text) => /^(\/[A-Za-z0-9_-][A-Za-z0-9._-]*){2,}$/.test(text) && !text.includes('..')]
];

/* `true or false`, `a, b or c`. (LuCI's minifier takes a pattern for one only behind certain signs.) */
const CHOICES = /^[a-z]+(, [a-z]+)* or [a-z]+$/;

function choices(expected) {
	return CHOICES.test(expected) ? expected.split(/, | or /) : null;
}

return view.extend({
	/* Whether the daemon will take this text. */
	fits: function(expected, text) {
		const words = choices(expected);

		if (words)
			return words.includes(text);

		for (const [pattern, rule] of RULES) {
			const found = pattern.exec(expected);

			if (found)
				return rule(text, found[1]);
		}

		return true;
	},

	/* `place` makes the field: a tab, or a section without any. */
	addOption: function(place, option) {
		const words = choices(option.expected);
		const field = place(words ? form.ListValue : form.Value, option.section + '_' + option.name, option.title, option.help);

		field.ucisection = option.section;
		field.ucioption = option.name;

		if (words) {
			field.value('', daemon.fill(_('default ({value})'), { value: option.initial }));
			words.forEach((word) => field.value(word, WORDS.get(word) || word));
		}
		else {
			field.placeholder = option.initial;
			field.validate = (id, text) => {
				if (option.name === FIRST)
					this.judge(text);

				return text === '' || this.fits(option.expected, text) ||
					daemon.fill(_('Expected: {what}'), { what: options.words.get(option.expected) || option.expected });
			};
		}

		field.optional = true;
		field.rmempty = true;
		field.password = /secret/.test(option.expected);

		return field;
	},

	/* A field of the agent's, this router as a player; `place` makes it. */
	addPlayer: function(place, kind, name, title, help) {
		const field = place(kind, 'agent_' + name, title, help);

		field.ucisection = 'agent';
		field.ucioption = name;
		field.rmempty = kind !== form.Flag;

		return field;
	},

	/* Says what is wrong with the address for friends, before somebody sends it to them. */
	judge: function(text) {
		const known = this.overview && this.overview.endpoint;
		const set = text === '' && known ? daemon.fill(_('The daemon uses {endpoint}, which was set on its own pages.'), { endpoint: known }) : null;
		const doubt = daemon.doubt(text || known || '');

		this.warning.textContent = [set, doubt].filter(Boolean).join(' ');
		this.warning.style.display = this.warning.textContent ? '' : 'none';
		this.warning.className = doubt ? 'alert-message warning' : 'alert-message notice';
	},

	load: function() {
		return Promise.all([
			daemon.ask(['overview', '--json']).catch(() => null),
			uci.load('lanrage')
		]).then(([overview]) => {
			/* What has no section yet could not be set. */
			for (const [section] of TABS)
				if (!uci.get('lanrage', section))
					uci.add('lanrage', 'settings', section);
			if (!uci.get('lanrage', 'service'))
				uci.add('lanrage', 'service', 'service');
			if (!uci.get('lanrage', 'agent'))
				uci.add('lanrage', 'agent', 'agent');

			return overview;
		});
	},

	render: function(overview) {
		const map = new form.Map('lanrage', _('LAN parties'),
			_('What is left empty has its default. If something cannot be used, the daemon goes on as before, and the system log says why.'));
		const service = map.section(form.NamedSection, 'service', 'service');
		const flag = (tab, name, title, help, initial) => {
			const field = service.taboption(tab, form.Flag, name, title, help);

			field.default = initial;
			field.rmempty = false;
		};
		const on = (tab) => (...rest) => service.taboption(tab, ...rest);
		const own = options.all.filter((option) => !option.config);

		this.overview = overview;
		this.warning = E('div', { 'id': 'lanrage-address', 'role': 'status' }, []);

		service.tab('general', _('General'));
		service.tab('player', _('This router as a player'));
		TABS.forEach(([section, tab, title]) => service.tab(tab, title));

		flag('general', 'enabled', _('Enabled'), _('Runs the daemon, now and after a reboot.'), '0');
		this.addOption(on('general'), Object.assign({}, own.find((option) => option.name === FIRST), {
			help: _("Where friends reach this router from the internet: a DNS name or the public IP address, and the relay's UDP port. Links and files for friends have it in them."),
			initial: _('such as home.example.org:51820')
		}));

		const player = this.addPlayer.bind(this, on('player'));

		player(form.Flag, 'enabled', _('Takes part'), _('This router plays itself, with an address of its own. Needs the packages kmod-tun and procd-ujail.')).default = '0';
		player(form.Value, 'server', _('Server of the party'), _("Its address. The party's id is among the secrets.")).placeholder = 'http://HOST:8667';
		player(form.Value, 'name', _('Name'), _('What the others see.'));
		player(form.Flag, 'firewall', _('Zone in the firewall'), _('Keeps the party out of this router and the LAN, and lets the LAN into the party.')).default = '1';

		flag('advanced', 'firewall', _('Open the firewall'), _("Lets players reach the relay's port from the internet."), '1');
		flag('advanced', 'mdns', _('Announce in the LAN'), _('Needs the package umdns.'), '1');
		flag('advanced', 'jail', _('Jail'), _('Needs the package procd-ujail.'), '1');

		for (const [name, tab] of TABS)
			own.filter((option) => option.section === name && option.name !== FIRST).forEach((option) => this.addOption(on(tab), option));

		const maps = [map];

		/* Who may only look may not see these, nor load them. */
		if (L.hasViewPermission()) {
			const secrets = options.all.filter((option) => option.config);

			new Set(secrets.map((option) => option.config)).forEach((config) => {
				const more = new form.Map(config, '', _('Shown to whoever may change them.'));
				const section = more.section(form.NamedSection, 'main', 'settings');

				const place = (...rest) => section.option(...rest);

				secrets.filter((option) => option.config === config).forEach((option) => this.addOption(place, option));
				this.addPlayer(place, form.Value, 'party', _('Party of this router'), _('The id of the party that this router takes part in.'));
				this.addPlayer(place, form.Value, 'password', _('Password of that party'), _('If it has one.')).password = true;
				maps.push(more);
			});
		}

		return Promise.all(maps.map((map) => map.render())).then((nodes) => {
			this.judge(uci.get('lanrage', 'main', FIRST) || '');

			return E('div', { 'class': 'lanrage-page' }, [
				daemon.style(),
				E('p', {}, overview
					? [daemon.badge('on', _('running')), ' ', _('Friends use'), ' ', overview.endpoint ? E('code', {}, [overview.endpoint]) : E('em', {}, [_('nothing yet')])]
					: [daemon.badge('off', _('not running'))]),
				this.warning
			].concat(nodes.map((node, at) => at ? E('details', {}, [E('summary', {}, [_('Secrets')]), node]) : node)));
		});
	}
});
