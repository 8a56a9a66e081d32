# Completion for lanrage in bash.

declare -A _lanrage_words=(
  # What may follow a command, by its words so far.
  # begin words
  ['lanrage']='backup bench db device doctor events genkey help host invite join leave nat overview party peer peers pubkey relay restore serve status ui --help --version'
  ['lanrage db']='check dump --help'
  ['lanrage device']='add list remove --help'
  ['lanrage invite']='create list revoke --help'
  ['lanrage party']='create delete list rename set show --help'
  ['lanrage peer']='ban bans kick unban --help'
  ['lanrage serve']='--config --print-config --state-dir --http --relay --public-endpoint --public-url --subnet --region --log --runtime-dir --gso --tun --interface --max-clients --admin-token --trusted-proxies --allowed-hosts --allowed-origins --memory --limits-parties --limits-parties-hosted --limits-parties-joined --limits-peers-per-party --limits-tokens --limits-tokens-per-peer --limits-relays --limits-relays-per-owner --limits-bans-per-party --limits-invites-per-party --limits-invites --limits-signals-per-peer --limits-signal-size --limits-signals-size --limits-addresses-remembered --limits-connections --limits-connections-per-source --limits-sessions --limits-sessions-per-source --rates-requests --rates-creations --rates-changes --timeouts-token --timeouts-peer --timeouts-relay --timeouts-sweep --timeouts-head --timeouts-body --timeouts-idle --timeouts-write --help'
  ['lanrage status']='--json --state-dir --config --help'
  ['lanrage overview']='--json --state-dir --config --help'
  ['lanrage doctor']='--json --state-dir --config --help'
  ['lanrage join']='--name --party-file --password --password-file --interface --no-offload --verbose --state-dir --config --help'
  ['lanrage host']='--name --password --interface --no-offload --verbose --state-dir --config --help'
  ['lanrage leave']='--json --state-dir --config --help'
  ['lanrage peers']='--watch --json --state-dir --config --help'
  ['lanrage nat']='--json --state-dir --config --help'
  ['lanrage party list']='--json --state-dir --config --help'
  ['lanrage party create']='--open --public --password --invite-only --ends --relay --json --state-dir --config --help'
  ['lanrage party set']='--name --open --public --password --invite-only --ends --permanent --temporary --json --state-dir --config --help'
  ['lanrage party rename']='--json --state-dir --config --help'
  ['lanrage party show']='--json --state-dir --config --help'
  ['lanrage party delete']='--json --state-dir --config --help'
  ['lanrage peer kick']='--json --state-dir --config --help'
  ['lanrage peer ban']='--key --json --state-dir --config --help'
  ['lanrage peer unban']='--key --json --state-dir --config --help'
  ['lanrage peer bans']='--json --state-dir --config --help'
  ['lanrage device add']='--qr --conf --key --expires --force --json --state-dir --config --help'
  ['lanrage device list']='--json --state-dir --config --help'
  ['lanrage device remove']='--json --state-dir --config --help'
  ['lanrage invite create']='--uses --expires --code --json --state-dir --config --help'
  ['lanrage invite list']='--json --state-dir --config --help'
  ['lanrage invite revoke']='--json --state-dir --config --help'
  ['lanrage ui']='--json --state-dir --config --help'
  ['lanrage events']='--follow --json --state-dir --config --help'
  ['lanrage relay']='approve list revoke --control --control-key --region --relay --public-endpoint --subnet --log --state-dir --config --help'
  ['lanrage relay list']='--json --state-dir --config --help'
  ['lanrage relay approve']='--json --state-dir --config --help'
  ['lanrage relay revoke']='--json --state-dir --config --help'
  ['lanrage backup']='--force --json --state-dir --config --help'
  ['lanrage restore']='--json --state-dir --config --help'
  ['lanrage db check']='--json --state-dir --config --help'
  ['lanrage db dump']='--json --state-dir --config --help'
  ['lanrage bench']='--json --help'
  ['lanrage genkey']='--json --help'
  ['lanrage pubkey']='--json --help'
  # end words
)
declare -A _lanrage_values=(
  # Options with a value, and what it is.
  # begin values
  [--admin-token]=other
  [--allowed-hosts]=other
  [--allowed-origins]=other
  [--conf]=file
  [--config]=file
  [--control-key]=other
  [--control]=other
  [--ends]=other
  [--expires]=other
  [--gso]='yes no'
  [--http]=other
  [--interface]=other
  [--key]=other
  [--limits-addresses-remembered]=other
  [--limits-bans-per-party]=other
  [--limits-connections-per-source]=other
  [--limits-connections]=other
  [--limits-invites-per-party]=other
  [--limits-invites]=other
  [--limits-parties-hosted]=other
  [--limits-parties-joined]=other
  [--limits-parties]=other
  [--limits-peers-per-party]=other
  [--limits-relays-per-owner]=other
  [--limits-relays]=other
  [--limits-sessions-per-source]=other
  [--limits-sessions]=other
  [--limits-signal-size]=other
  [--limits-signals-per-peer]=other
  [--limits-signals-size]=other
  [--limits-tokens-per-peer]=other
  [--limits-tokens]=other
  [--log]='off error warn info debug trace'
  [--max-clients]=other
  [--memory]=other
  [--name]=other
  [--party-file]=file
  [--password-file]=file
  [--public-endpoint]=other
  [--public-url]=other
  [--rates-changes]=other
  [--rates-creations]=other
  [--rates-requests]=other
  [--region]=other
  [--relay]=other
  [--runtime-dir]=directory
  [--state-dir]=directory
  [--subnet]=other
  [--timeouts-body]=other
  [--timeouts-head]=other
  [--timeouts-idle]=other
  [--timeouts-peer]=other
  [--timeouts-relay]=other
  [--timeouts-sweep]=other
  [--timeouts-token]=other
  [--timeouts-write]=other
  [--trusted-proxies]=other
  [--tun]='yes no'
  [--uses]=other
  # end values
)
declare -A _lanrage_files=(
  # Commands that take a file.
  # begin files
  ['lanrage backup']=1
  ['lanrage restore']=1
  ['lanrage db check']=1
  ['lanrage db dump']=1
  # end files
)

_lanrage() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local command=lanrage longer index word
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=${COMP_WORDS[index]}
    if [[ $word == -* ]]; then
      if [[ ${_lanrage_values[$word]-} ]]; then index=$((index + 1)); fi
      continue
    fi
    longer="$command $word"
    if [[ ${_lanrage_words[$longer]-} ]]; then command=$longer; fi
  done

  local kind=''
  if [[ $previous == --* ]]; then kind=${_lanrage_values[$previous]-}; fi
  if [[ ! $kind && $current != -* && ${_lanrage_files[$command]-} ]]; then kind='file'; fi
  case $kind in
    directory)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      ;;
    file)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
    other) ;;
    '') mapfile -t COMPREPLY < <(compgen -W "${_lanrage_words[$command]}" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$kind" -- "$current") ;;
  esac
}

complete -F _lanrage lanrage
