'use strict';
'require baseclass';
'require fs';

// Asking the program, and its figures as people read them.

const PROGRAM = '/usr/bin/lanrage';

/* Values in the places that a sentence has for them. A value is never looked at again. */
function fill(text, values) {
	return text.replace(/\{(\w+)\}/g, (place, name) => name in values ? values[name] : place);
}

/* What the program says. */
function run(line, accepted) {
	return fs.exec(PROGRAM, line).then((result) => {
		if (result.code !== 0 && !(accepted && result.stdout))
			throw new Error((result.stderr || '').replace(/^lanrage: /, '').trim() ||
				fill(_('lanrage ended with code {code}.'), { code: result.code }));

		return result.stdout || '';
	});
}

return baseclass.extend({
	fill,

	/* Somebody's name within a sentence, whose direction it must not change. */
	within: function(text) {
		return text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '');
	},

	/* What follows `--` is no option, whatever a peer has called itself. */
	ask: function(words, names) {
		return run(words.concat(names ? ['--'].concat(names) : [])).then((text) => JSON.parse(text));
	},

	/* One that finds something wrong says what, and ends with code 1. */
	examine: function() {
		return run(['doctor', '--json'], true).then((text) => JSON.parse(text));
	},

	/* Of a command that says something on each line. */
	lines: function(words) {
		return run(words).then((text) => text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line)));
	},

	span: function(seconds) {
		const units = [[86400, _('{n} d')], [3600, _('{n} h')], [60, _('{n} min')]];

		for (const [size, text] of units)
			if (seconds >= size)
				return fill(text, { n: Math.floor(seconds / size) });

		return fill(_('{n} s'), { n: Math.max(0, Math.floor(seconds)) });
	},

	ago: function(seconds) {
		return fill(_('{span} ago'), { span: this.span(seconds) });
	},

	/* In powers of 1000, as the command line has them. */
	size: function(bytes) {
		const units = ['B', 'kB', 'MB', 'GB', 'TB'];
		let unit = 0;

		for (; bytes >= 999.95 && unit < units.length - 1; unit++)
			bytes /= 1000;

		return (unit ? bytes.toFixed(1) : bytes) + ' ' + units[unit];
	},

	access: function(kind) {
		return new Map([
			['invite', _('Who has an invite')],
			['open', _("Who knows the party's id")],
			['password', _('Who knows the password')],
			['public', _('Everybody; listed publicly')]
		]).get(kind) || kind;
	},

	/* Why friends can't use an endpoint HOST:PORT; nothing if they can. */
	doubt: function(endpoint) {
		const host = endpoint.trim().toLowerCase().replace(/:\d*$/, '').replace(/^\[|\]$/g, '');

		if (host === '')
			return _('Without a public address, links and files for friends have none in them: enter the name or address that this network has in the internet.');
		if (/^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.\d+$/.test(host))
			return _("This address is inside your provider's network (100.64.0.0/10): friends can't reach it. Ask the provider for a public IPv4 address, or use IPv6.");
		if (/^(0|10|127|169\.254|192\.168|172\.(1[6-9]|2\d|3[01]))(\.\d+)+$/.test(host) || /^(::1?|f[cd][0-9a-f]*:.*|fe[89ab][0-9a-f]*:.*)$/.test(host) ||
			/^localhost$|\.(lan|local|home|internal|localdomain|home\.arpa)$/.test(host) || !/[.:]/.test(host))
			return _('This address works in your own network only. Friends need your public IP address or a DNS name.');

		return null;
	},

	/* A word with a colour behind it, which the word does not need. */
	badge: function(kind, text) {
		return E('span', { 'class': 'lanrage-badge lanrage-' + kind }, [text]);
	},

	/* A LuCI theme knows nothing of these. Colours hold on light and dark ones. */
	style: function() {
		return E('style', {}, [[
			'.lanrage-badge{display:inline-block;padding:0 .6em;border-radius:1em;color:#fff;background:#57606a;font-size:90%;line-height:1.6}',
			'.lanrage-on{background:#1a7f37}',
			'.lanrage-off{background:#b42318}',
			'.lanrage-row{display:flex;flex-wrap:wrap;gap:.4em 1em;align-items:center;padding:.6em 0;border-top:1px solid rgba(128,128,128,.4)}',
			'.lanrage-row>:first-child{flex:1 1 14em;min-width:0}',
			'.lanrage-facts{display:flex;flex-wrap:wrap;gap:0 1em}',
			'.lanrage-actions{display:flex;flex-wrap:wrap;gap:.4em;margin:.6em 0}',
			'.lanrage-page,.lanrage-page *{overflow-wrap:anywhere}',
			'.lanrage-page ul{list-style:none;margin:0;padding:0}',
			'.lanrage-page button,.lanrage-dialog button{white-space:normal;height:auto}',
			'.lanrage-dialog input,.lanrage-dialog select{width:100%;max-width:30em;box-sizing:border-box}',
			'.lanrage-dialog input[type=checkbox]{width:auto}',
			'.lanrage-dialog img{width:100%;max-width:22em;background:#fff}',
			'.lanrage-dialog p{overflow-wrap:anywhere}'
		].join('\n')]);
	}
});
