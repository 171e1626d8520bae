'use strict';
'require view';
'require rpc';
'require poll';

const callLog = rpc.declare({ object: 'linkspan', method: 'log', expect: { text: '' } });

return view.extend({
	load: function() {
		return callLog();
	},

	render: function(lines) {
		const log = E('textarea', { 'class': 'cbi-input-textarea', 'readonly': 'readonly', 'wrap': 'off', 'rows': 30, 'style': 'width: 100%' });
		log.value = lines;
		poll.add(() => callLog().then(now => { log.value = now; }), 5);
		return E('div', {}, [
			E('h2', {}, [ document.createTextNode(_('Log of the gateway')) ]),
			log
		]);
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
