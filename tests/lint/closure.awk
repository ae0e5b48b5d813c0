# Prints layer/dep=dep... for each line of src/LAYERS as "layer=topmost next ... base", space coded as "/".
{ sub(/[|].*/, "") }
/^#/ || NF < 2 { next }
{
    layer = $1; order[++count] = layer
    n = split($2, uses, " ")
    need[layer, layer] = 1
    for (i = 1; i <= n; i++)
        for (j = 1; j < count; j++)
            if ((uses[i], order[j]) in need) need[layer, order[j]] = 1
    line = layer "="
    for (j = count; j >= 1; j--) if ((layer, order[j]) in need) line = line "/" order[j]
    print line
}
