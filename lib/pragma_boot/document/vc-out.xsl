<?xml version="1.0" encoding="UTF-8"?>
<!-- vc-out.xml: the part of the document that the guest of one node needs.

     PRAGMA's guests have parsers of two generations. The older ones read frontend/public,
     frontend/private, compute/node and compute/private. The newer ones read name, fqdn and gw of
     the node's own element, and ip, netmask and mac of its children. A guest is a compute node if
     there is a compute/private. Rocks reads a node's interfaces from the children of
     compute/node. -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output method="xml" omit-xml-declaration="yes" indent="yes" encoding="UTF-8"/>

  <xsl:param name="node"/>

  <xsl:variable name="cluster" select="/vc/cluster"/>
  <xsl:variable name="self" select="$cluster/node[@name = $node]"/>
  <xsl:variable name="frontend" select="$cluster/node[@role = 'frontend']"/>
  <!-- what the guest's hostname -s says -->
  <xsl:variable name="short" select="substring-before(concat($frontend/@fqdn, '.'), '.')"/>
  <xsl:variable name="public" select="$frontend/interface[@network = 'public']"/>
  <xsl:variable name="private" select="$self/interface[@network = 'private']"/>

  <xsl:template match="/">
    <vc>
      <xsl:choose>
        <xsl:when test="$self/@role = 'frontend'">
          <frontend name="{$short}" fqdn="{$self/@fqdn}" gw="{$public/@gw}">
            <xsl:copy-of select="$self/@disk_size"/>
            <public name="{$short}" fqdn="{$self/@fqdn}" ip="{$public/@ip}"
                    netmask="{$public/@netmask}" gw="{$public/@gw}" mac="{$public/@mac}"/>
            <private ip="{$private/@ip}" netmask="{$private/@netmask}" mac="{$private/@mac}"/>
          </frontend>
          <compute count="{count($cluster/node[@role = 'compute'])}">
            <xsl:for-each select="$cluster/node[@role = 'compute']">
              <xsl:variable name="own" select="interface[@network = 'private']"/>
              <node name="{@name}" mac="{$own/@mac}" ip="{$own/@ip}" cpus="{@cpus}"
                    memory="{@memory}">
                <private ip="{$own/@ip}" netmask="{$own/@netmask}" mac="{$own/@mac}"/>
              </node>
            </xsl:for-each>
          </compute>
        </xsl:when>
        <xsl:otherwise>
          <frontend fqdn="{$frontend/@fqdn}">
            <public fqdn="{$frontend/@fqdn}"/>
          </frontend>
          <compute name="{$self/@name}" gw="{$private/@gw}" cpus="{$self/@cpus}"
                   memory="{$self/@memory}">
            <xsl:copy-of select="$self/@disk_size"/>
            <private fqdn="{$self/@fqdn}" ip="{$private/@ip}" netmask="{$private/@netmask}"
                     gw="{$private/@gw}" mac="{$private/@mac}"/>
          </compute>
        </xsl:otherwise>
      </xsl:choose>
      <network>
        <dns ip="{$cluster/dns/@ip}" search="{$cluster/dns/@search}"
             domain="{$cluster/dns/@domain}"/>
      </network>
      <xsl:if test="$cluster/@user">
        <user name="{$cluster/@user}"/>
      </xsl:if>
      <key>
        <xsl:for-each select="$cluster/key[not(@role) or @role = $self/@role]">
          <xsl:if test="position() &gt; 1"><xsl:text>&#10;</xsl:text></xsl:if>
          <xsl:value-of select="."/>
        </xsl:for-each>
      </key>
    </vc>
  </xsl:template>
</xsl:stylesheet>
