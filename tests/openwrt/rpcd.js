// What LuCI's server side does for a page: it runs what the lists of rights allow, by patterns over the whole line.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

/* As fnmatch(3) without flags, which rpcd asks. */
function allows(pattern, line) {
	const parts = pattern.match(/\[[^\]]+\]|[\s\S]/g).map((part) => part.length > 1 ? part
		: part === '*' ? '[\\s\\S]*' : part === '?' ? '[\\s\\S]' : part.replace(/[.+^${}()|\\]/, '\\$&'));

	return new RegExp('^' + parts.join('') + '$').test(line);
}

/* The rights of the LuCI package in `folder`. */
exports.rights = function(folder) {
	const acl = JSON.parse(fs.readFileSync(path.join(folder, 'root/usr/share/rpcd/acl.d/luci-app-lanrage.json')))['luci-app-lanrage'];
	const patterns = (roles) => roles.flatMap((role) => Object.entries(acl[role].file)).filter(([, rights]) => rights.includes('exec')).map(([line]) => line);

	return {
		patterns,
		mayRun: (roles, line) => patterns(roles).some((pattern) => allows(pattern, line)),
		/* Lists grant their section's own right, tables what they name. */
		mayRead: (roles, config) => roles.some((role) => Array.isArray(acl[role].uci)
			? role === 'read' && acl[role].uci.includes(config)
			: (acl[role].uci[config] || []).includes('read'))
	};
};

exports.allows = allows;

/* What a view or module asks for: from where, and as what. */
exports.required = (source) => [...source.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm)].map(([, from, as]) => [from, as || from]);
