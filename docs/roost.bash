# bash completion for roost. What can follow is asked from roost itself, so
# that verbs, options, devices and names of running VMs are those there are.
_roost() {
	local line=${COMP_LINE:0:COMP_POINT} words word list prefix
	read -ra words <<<"$line"
	[[ $line != *[[:space:]] ]] || words+=("")
	word=${words[-1]}
	mapfile -t list < <("${words[0]}" help --complete "${words[@]:1}" 2>/dev/null)
	COMPREPLY=()
	compopt -o nospace 2>/dev/null
	for line in "${list[@]}"; do
		if [[ $line = @file ]]; then
			compopt -o filenames +o nospace 2>/dev/null
			mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$word")
		elif [[ $line = *= ]]; then
			COMPREPLY+=("$line")
		else
			COMPREPLY+=("$line ")
		fi
	done
	# Readline replaces only what follows the last of its word breaks.
	prefix=${word%"${word##*[=:]}"}
	COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
complete -F _roost roost
