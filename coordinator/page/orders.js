// Orders to the cluster. What takes the admin token asks for it; nobody keeps it but this page, while it is open.
'use strict';

let token = '';
let hush = 0; // takes what was said away

function say(text) {
  clearTimeout(hush);
  put($('said'), text);
  hush = setTimeout(() => put($('said'), ''), 15000);
}

// ask shows a dialog, and is what was put in, or '' if nothing was asked for; null if the person does not want to.
function ask(title, text, verb, field) {
  const dialog = $('ask'), input = $('ask-input');
  $('ask-title').textContent = title;
  $('ask-text').textContent = text;
  $('ask-yes').textContent = verb;
  $('ask-row').hidden = input.disabled = !field;
  if (field) {
    $('ask-label').textContent = field.label;
    Object.assign(input, { type: field.type, value: field.value, min: 1, pattern: '[!-~]+', title: field.title || '' });
  }
  dialog.returnValue = '';
  dialog.showModal();
  if (field) input.select();
  return new Promise(resolve => {
    dialog.onclose = () => {
      const given = field ? input.value : '';
      input.value = '';
      resolve(dialog.returnValue === 'yes' ? given : null);
    };
  });
}

$('ask-no').addEventListener('click', () => $('ask').close(''));

function askToken(what) {
  const refused = token !== '';
  token = '';
  return ask(refused ? 'That is not the admin token' : 'Admin token',
    `To ${what} takes the admin token, which the coordinator has from MUSTER_ADMIN_TOKEN_FILE. It is kept only while this page is open.`,
    'Go on', { label: 'Token', type: 'password', value: '', title: 'letters, digits and signs, without spaces' });
}

// order gives an order, and says what became of it.
async function order(method, path, body, what) {
  let answer, text;
  do {
    const headers = {};
    if (body !== null) headers['Content-Type'] = 'application/json';
    if (token) headers.Authorization = `Bearer ${token}`;
    try {
      answer = await fetch(path, { method, headers, body: body === null ? undefined : JSON.stringify(body) });
      text = (await answer.text()).trim();
    } catch {
      say(`not known whether it was ordered: ${what}; this coordinator does not answer`);
      return;
    }
    if (answer.status === 401) {
      const given = await askToken(what);
      if (given === null) {
        say(`not ordered: ${what}`);
        return;
      }
      token = given;
    }
  } while (answer.status === 401);
  say(answer.ok ? `ordered: ${what}` : `not ordered: ${what}: ${text}`);
}

async function confirmed(title, text, verb, method, path, body, what) {
  if (await ask(title, text, verb) !== null) order(method, path, body, what);
}

function drainButton(id) {
  const button = make('button');
  button.addEventListener('click', () => {
    const path = `v1/workers/${encodeURIComponent(id)}/drain`, w = state.workers.find(w => w.id === id);
    if (w && w.draining) order('DELETE', path, null, `take the drain of ${id} back`);
    else confirmed(`Drain ${id}?`, 'It hands over all its shards, by RESUME, and gets no more until it starts anew.', 'Drain', 'POST', path, {}, `drain ${id}`);
  });
  return button;
}

function labelDrain(button, w) {
  put(button, w.draining ? 'Drain off' : 'Drain');
  const label = w.draining ? `Drain off: take the drain of ${w.id} back` : `Drain ${w.id}`;
  if (button.ariaLabel !== label) button.ariaLabel = label;
}

// standing is the change of the number of shards that was ordered and is neither done nor refused.
const standing = c => c.directives.reshard && !c.directives.reshard.refused ? c.directives.reshard : null;

function showOrders(c) {
  const d = c.directives, said = [];
  $('o-up').disabled = !d.down;
  $('o-down').disabled = Boolean(d.down);
  put($('o-reshard'), standing(c) ? 'Abort the reshard…' : 'Reshard…');
  if (d.rebalance) said.push('load is being evened out');
  if (c.next) said.push(`generation ${c.next.generation} with ${plural(c.next.shards, 'shard')} is being prepared: ${count(c.next.ready)} are ready, ${Math.floor(100 * c.next.ready / c.next.shards)} %`);
  else if (standing(c)) said.push(`${plural(d.reshard.shards, 'shard')} are wanted`);
  if (c.finishing) said.push(`${plural(c.finishing, 'range')} of the former generation are being brought to their ends`);
  put($('standing'), `under way: ${said.join('; ')}`);
  $('standing').hidden = !said.length;
}

$('o-rebalance').addEventListener('click', () => order('POST', 'v1/rebalance', {}, 'rebalance'));
$('o-up').addEventListener('click', () => order('POST', 'v1/up', {}, 'bring the cluster up'));
$('o-down').addEventListener('click', () => confirmed('Take the whole cluster down?',
  'Every socket is closed, resumably, and stays closed until Up. No events come meanwhile, and Discord keeps the sessions for minutes only.',
  'Take it down', 'POST', 'v1/down', {}, 'take the cluster down'));
$('o-reshard').addEventListener('click', async () => {
  const stands = state && standing(state);
  if (stands) {
    confirmed(`Give up the change to ${plural(stands.shards, 'shard')}?`, 'The present number of shards goes on. The IDENTIFYs that were spent are gone.',
      'Give it up', 'DELETE', 'v1/reshard', null, 'abort the reshard');
    return;
  }
  const given = await ask('Change the number of shards?',
    'A new set of sessions is prepared beside the present one, within the identify budget, and takes over without downtime.',
    'Reshard', { label: 'Shards', type: 'number', value: state ? state.shards : 1 });
  if (given !== null) order('POST', 'v1/reshard', { shards: Number(given) }, `reshard to ${given}`);
});
