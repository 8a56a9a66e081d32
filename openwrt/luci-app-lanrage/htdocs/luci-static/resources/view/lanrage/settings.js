'use strict';
'require view';
'require form';
'require lanrage.options as options';

const TITLES = {
	main: _('Daemon'),
	limits: _('Limits'),
	rates: _('Rates'),
	timeouts: _('Time-outs')
};

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

	addOption: function(section, option) {
		const words = choices(option.expected);
		const field = section.option(words ? form.ListValue : form.Value, option.name, option.name, option.help);

		if (words) {
			field.value('', _('default') + ' (' + option.initial + ')');
			words.forEach((word) => field.value(word, word));
		}
		else {
			field.placeholder = option.initial;
			field.validate = (id, text) => text === '' || this.fits(option.expected, text) ||
				_('Expected:') + ' ' + option.expected;
		}

		field.optional = true;
		field.rmempty = true;
		field.password = /secret/.test(option.expected);
	},

	addOptions: function(map, all) {
		let section = null;

		all.forEach((option) => {
			if (!section || section.section !== option.section)
				section = map.section(form.NamedSection, option.section, 'settings', TITLES[option.section] || option.section);

			this.addOption(section, option);
		});
	},

	render: function() {
		const map = new form.Map('lanrage', _('LAN parties'),
			_('What is left empty has its default. If something cannot be used, the daemon goes on as before, and the system log says why.'));
		const service = map.section(form.NamedSection, 'service', 'service', _('Service'));
		const flag = (name, title, help, initial) => {
			const field = service.option(form.Flag, name, title, help);

			field.default = initial;
			field.rmempty = false;
		};

		flag('enabled', _('Enabled'), _('Runs the daemon, now and after a reboot.'), '0');
		flag('firewall', _('Open the firewall'), _("Lets players reach the relay's port from the internet."), '1');
		flag('mdns', _('Announce in the LAN'), _('Needs the package umdns.'), '1');
		flag('jail', _('Jail'), _('Needs the package procd-ujail.'), '1');

		const maps = [map];

		this.addOptions(map, options.all.filter((option) => !option.config));

		/* Who may only look may not see these, nor load them. */
		if (L.hasViewPermission()) {
			const secrets = options.all.filter((option) => option.config);

			new Set(secrets.map((option) => option.config)).forEach((config) => {
				const more = new form.Map(config, _('Secrets'), _('Shown to whoever may change them.'));

				this.addOptions(more, secrets.filter((option) => option.config === config));
				maps.push(more);
			});
		}

		return Promise.all(maps.map((map) => map.render())).then((nodes) => E('div', {}, nodes));
	}
});
